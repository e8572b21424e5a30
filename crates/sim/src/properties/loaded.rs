//! *Everything written is in the end loaded or rolled back.*

use super::Truth;
use regrow_control::reconcile::Transaction;
use regrow_model::key::{Change, Record};
use regrow_model::{Name, observed};

impl Truth<'_> {
    /// In the end, for each template: the set that is in place is the set recorded as written, is the set recorded as
    /// loaded, and is what every program that reads it runs with.
    ///
    /// Excepted: a template none of whose sets was ever loaded has nothing to roll back to; its problem must be
    /// recorded. So has one whose last loaded set cannot be loaded: it counted as loaded while nobody was there to read
    /// it.
    pub(crate) fn loaded(&self) -> Result<(), String> {
        let view = self.store.truth();
        for ((template, _), status) in
            view.template_status.iter().filter(|((name, _), _)| view.templates.contains_key(name))
        {
            match (&status.written, &status.loaded, &status.problem) {
                (None, ..) => continue,
                (Some(written), Some(loaded), _) if written.digest == loaded.digest => {
                    if self.world.disk().placed(template) != Some(written.digest) {
                        return Err(format!(
                            "template {template} is recorded as written {}, and is not",
                            written.digest
                        ));
                    }
                    self.taken(template)?;
                }
                (Some(_), None, Some(_)) => continue,
                (Some(_), Some(loaded), Some(_)) if self.world.disk().can_never_load(template, loaded.digest) => {
                    continue;
                }
                (Some(written), loaded, _) => {
                    let loaded = loaded.as_ref().map_or("nothing".to_owned(), |loaded| loaded.digest.to_string());
                    return Err(format!("template {template} has {} written and {loaded} loaded", written.digest));
                }
            }
        }
        Ok(())
    }

    /// Whether every program that reads a template runs with what is in place.
    fn taken(&self, template: &Name) -> Result<(), String> {
        let Some(in_place) = self.world.disk().in_place(template) else {
            return Err(format!("template {template} has nothing in place"));
        };
        let reads = self.store.truth().templates.get(template).and_then(|template| template.spec.reload.clone());
        let Some(reload) = reads else { return Ok(()) };
        if !reload.command.is_empty() {
            return match self.world.external(template) {
                Some(loaded) if loaded.serves_as(&in_place) => Ok(()),
                other => Err(format!("template {template} is {in_place:?}, and its command's program has {other:?}")),
            };
        }
        for reader in
            self.world.processes().iter().filter(|process| Some(&process.instance.group) == reload.group.as_ref())
        {
            let loaded = reader.loaded.clone().unwrap_or_default();
            if !loaded.serves_as(&in_place) {
                return Err(format!("template {template} is {in_place:?}, and {} has {loaded:?}", reader.instance));
            }
        }
        Ok(())
    }

    /// What a transaction newly records as loaded, some program has loaded or is to read when it starts: a load that was
    /// claimed and never done is found when it is recorded and not only in the end.
    pub(crate) fn honest(&self, transaction: &Transaction) -> Result<(), String> {
        for change in &transaction.changes {
            let Change::Put(Record::Template(template, node, next)) = change else { continue };
            let before = self.store.truth().template_status.get(&(template.clone(), node.clone()));
            let digest = |status: &observed::Template| status.loaded.as_ref().map(|loaded| loaded.digest);
            let loaded = digest(next);
            if loaded.is_none() || before.and_then(|before| digest(before)) == loaded {
                continue;
            }
            // Another set may be in place by now only if an agent before this one put it there.
            if loaded == self.world.disk().placed(template) && !self.world.disk().was_loaded(template, loaded) {
                return Err(format!("template {template} is recorded as loaded, and nobody was told"));
            }
        }
        Ok(())
    }
}
