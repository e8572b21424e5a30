//! The order of starts must end: nothing may wait for itself, not even through a guard.
//!
//! A group waits for what its `after` names. A template waits until the services of its `guard.min` have as many
//! instances. A service has the instances of the groups that provide it, once those have started. A template's
//! `reload.group` is not waited for: it is told when it runs.
//!
//! First all that can start is started, in numbers. What is left waits for something in a circle, or for a circle; each
//! circle is told once. All steps are linear in the size of the spec.

use super::super::Spec;
use super::super::diagnostic::Wrongs;
use super::Written;
use crate::{Kind, Ref};
use std::collections::{BTreeMap, VecDeque};

pub(super) fn check(spec: &Spec, written: &Written<'_>, wrong: &mut Wrongs) {
    unprovided(spec, written, wrong);
    let graph = Graph::of(spec);
    let waits = graph.left_waiting();
    for circle in circles(&waits) {
        report(spec, &graph, &circle, written, wrong);
    }
}

/// A service that is waited for and that no group provides.
fn unprovided(spec: &Spec, written: &Written<'_>, wrong: &mut Wrongs) {
    let provided: std::collections::BTreeSet<_> =
        spec.groups.values().filter_map(|group| group.service.as_ref()).collect();
    let help = |service| format!("give a group `service: {service}`, or do not wait for it");
    for (name, template) in &spec.templates {
        for (service, min) in &template.guard.min {
            if *min > 0 && spec.services.contains_key(service) && !provided.contains(service) {
                let Some(at) = written.templates.get(name.as_str()) else { continue };
                let at = at.get("guard").get("min").get(service.as_str());
                let message = format!("no group provides service `{service}`: the template would never be written");
                wrong.key(&at, message, help(service));
            }
        }
    }
    for (name, group) in &spec.groups {
        for (index, object) in group.after.iter().enumerate() {
            let known = object.kind == Kind::Service && spec.services.contains_key(&object.name);
            if known && !provided.contains(&object.name) {
                let Some(at) = written.groups.get(name.as_str()) else { continue };
                let at = at.get("after").index(index);
                let message = format!("no group provides service `{}`: the group would never start", object.name);
                wrong.value(&at, message, help(&object.name));
            }
        }
    }
}

/// Groups, templates and services by index, and who waits for whom.
struct Graph {
    /// Groups come first: each circle has one, and begins with it.
    objects: Vec<Ref>,
    /// For each group or template: the groups and templates that must be ready before it.
    before: Vec<Vec<usize>>,
    /// For each group or template: services, and how many instances each must have.
    needs: Vec<Vec<(usize, u64)>>,
    /// For each group: the service that it provides, and its size.
    provides: Vec<Option<(usize, u64)>>,
}

impl Graph {
    fn of(spec: &Spec) -> Graph {
        let groups = spec.groups.keys().map(|name| Ref::new(Kind::Group, name));
        let templates = spec.templates.keys().map(|name| Ref::new(Kind::Template, name));
        let services = spec.services.keys().map(|name| Ref::new(Kind::Service, name));
        let objects: Vec<Ref> = groups.chain(templates).chain(services).collect();
        let index: BTreeMap<&Ref, usize> = objects.iter().enumerate().map(|(index, object)| (object, index)).collect();
        let service = |name| index.get(&Ref::new(Kind::Service, name)).copied();
        let mut provides = vec![None; objects.len()];
        let mut most = vec![0_u64; objects.len()];
        for (own, group) in spec.groups.values().enumerate() {
            if let Some(service) = group.service.as_ref().and_then(service) {
                provides[own] = Some((service, u64::from(group.size)));
                most[service] += u64::from(group.size);
            }
        }
        let mut before = vec![Vec::new(); objects.len()];
        let mut needs = vec![Vec::new(); objects.len()];
        // Never more than all groups together have: a guard above that is no circle, and `group scale` may come.
        let mut need = |own: usize, service: usize, min: u64| needs[own].push((service, min.min(most[service])));
        for (own, group) in spec.groups.values().enumerate() {
            for object in &group.after {
                match (object.kind, index.get(object)) {
                    (Kind::Service, Some(service)) => need(own, *service, 1),
                    (_, Some(other)) => before[own].push(*other),
                    (_, None) => {}
                }
            }
        }
        for (own, template) in spec.templates.values().enumerate() {
            for (name, min) in &template.guard.min {
                if let Some(service) = service(name) {
                    need(spec.groups.len() + own, service, u64::from(*min));
                }
            }
        }
        Graph { objects, before, needs, provides }
    }

    /// Starts all that can, and gives what each of the others waits for.
    fn left_waiting(&self) -> Vec<Vec<usize>> {
        let count = self.objects.len();
        let mut waited_by = vec![Vec::new(); count];
        let mut counted_by: Vec<Vec<(u64, usize)>> = vec![Vec::new(); count];
        let mut unmet: Vec<usize> = (0..count).map(|own| self.before[own].len() + self.needs[own].len()).collect();
        for own in 0..count {
            for other in &self.before[own] {
                waited_by[*other].push(own);
            }
            for (service, min) in &self.needs[own] {
                counted_by[*service].push((*min, own));
            }
        }
        // The smallest need last, to be taken off the end.
        counted_by.iter_mut().for_each(|needs| needs.sort_by(|one, other| other.cmp(one)));
        let mut has = vec![0_u64; count];
        let mut started = vec![false; count];
        let mut next: Vec<usize> = (0..count).filter(|own| unmet[*own] == 0).collect();
        let mut met = |own: usize, next: &mut Vec<usize>| {
            unmet[own] -= 1;
            if unmet[own] == 0 {
                next.push(own);
            }
        };
        for needs in &mut counted_by {
            while let Some((_, own)) = needs.pop_if(|(min, _)| *min == 0) {
                met(own, &mut next);
            }
        }
        while let Some(own) = next.pop() {
            started[own] = true;
            for other in &waited_by[own] {
                met(*other, &mut next);
            }
            if let Some((service, size)) = self.provides[own] {
                has[service] += size;
                while let Some((_, other)) = counted_by[service].pop_if(|(min, _)| *min <= has[service]) {
                    met(other, &mut next);
                }
            }
        }
        let mut waits = vec![Vec::new(); count];
        for own in (0..count).filter(|own| !started[*own]) {
            waits[own].extend(self.before[own].iter().copied().filter(|other| !started[*other]));
            let short = self.needs[own].iter().filter(|(service, min)| has[*service] < *min);
            waits[own].extend(short.map(|(service, _)| *service));
            if let Some((service, _)) = self.provides[own] {
                waits[service].push(own);
            }
        }
        waits
    }
}

/// One shortest circle of each set of things that wait for each other.
fn circles(waits: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut found = Vec::new();
    let component = components(waits);
    let mut told = vec![false; waits.len()];
    for start in 0..waits.len() {
        if told[component[start]] {
            continue;
        }
        let mut from: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for other in waits[at].iter().copied().filter(|other| component[*other] == component[start]) {
                if let std::collections::btree_map::Entry::Vacant(entry) = from.entry(other) {
                    entry.insert(at);
                    queue.push_back(other);
                }
            }
        }
        // Within a component each thing reaches each other one, so one look at its first member decides.
        told[component[start]] = true;
        if let Some(last) = from.get(&start) {
            let mut circle = vec![start];
            let mut at = *last;
            while at != start {
                circle.push(at);
                at = from[&at];
            }
            circle.push(start);
            circle.reverse();
            found.push(circle);
        }
    }
    found
}

/// For each thing the number of its strongly connected component. Source: Tarjan 1972, without recursion, because a
/// chain may be as long as the spec.
fn components(edges: &[Vec<usize>]) -> Vec<usize> {
    const NEW: usize = usize::MAX;
    let mut order = vec![NEW; edges.len()];
    let mut low = vec![0; edges.len()];
    let mut component = vec![NEW; edges.len()];
    let mut open: Vec<usize> = Vec::new();
    let mut clock = 0;
    let mut components = 0;
    for root in 0..edges.len() {
        let mut path: Vec<(usize, usize)> = if order[root] == NEW { vec![(root, 0)] } else { Vec::new() };
        while let Some((own, edge)) = path.pop() {
            if edge == 0 {
                order[own] = clock;
                low[own] = clock;
                clock += 1;
                open.push(own);
            }
            if let Some(other) = edges[own].get(edge).copied() {
                path.push((own, edge + 1));
                if order[other] == NEW {
                    path.push((other, 0));
                } else if component[other] == NEW {
                    low[own] = low[own].min(order[other]);
                }
                continue;
            }
            if low[own] == order[own] {
                while let Some(member) = open.pop() {
                    component[member] = components;
                    if member == own {
                        break;
                    }
                }
                components += 1;
            }
            if let Some((parent, _)) = path.last() {
                low[*parent] = low[*parent].min(low[own]);
            }
        }
    }
    component
}

/// Most objects of a circle that are shown.
const CIRCLE_SHOWN_MAX: usize = 12;

fn report(spec: &Spec, graph: &Graph, circle: &[usize], written: &Written<'_>, wrong: &mut Wrongs) {
    let object = |at: usize| &graph.objects[circle[at]];
    let group = object(0);
    let (Some(at), Some(entry)) = (written.groups.get(group.name.as_str()), spec.groups.get(&group.name)) else {
        return;
    };
    let position = entry.after.iter().position(|after| after == object(1)).unwrap_or(0);
    let at = at.get("after").index(position);
    if circle.len() == 2 {
        wrong.value(&at, format!("{group} waits for itself"), "leave it out of `after`");
        return;
    }
    let mut words: Vec<String> = circle.iter().map(|index| graph.objects[*index].to_string()).collect();
    if words.len() > CIRCLE_SHOWN_MAX {
        words.splice(CIRCLE_SHOWN_MAX / 2..words.len() - CIRCLE_SHOWN_MAX / 2, ["…".to_owned()]);
    }
    let message = format!("none of these can start first: {}", words.join(" → "));
    let counted = (1..circle.len()).find(|at| object(*at).kind == Kind::Service);
    let help = match counted {
        Some(service) if object(service - 1).kind == Kind::Template => format!(
            "{} waits for healthy instances of `{}` by its `guard.min`, and they come only after it: take it out of \
             `after`, or `{}` out of the guard",
            object(service - 1),
            object(service).name,
            object(service).name,
        ),
        Some(service) => format!("{} has instances only after {group}: take it out of `after`", object(service)),
        None => "take one of them out of `after`".to_owned(),
    };
    wrong.value(&at, message, help);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that components are found whatever the order of the edges, and that a long chain needs no stack.
    #[test]
    fn strongly_connected() {
        let edges = vec![vec![1], vec![2], vec![0, 3], vec![4], vec![3], vec![5], vec![0]];
        let component = components(&edges);
        assert!(component[0] == component[1] && component[1] == component[2]);
        assert!(component[3] == component[4] && component[3] != component[0]);
        assert!(component[5] != component[6] && component[6] != component[0]);
        assert_eq!(circles(&edges), [vec![0, 1, 2, 0], vec![3, 4, 3], vec![5, 5]]);
        let chain: Vec<Vec<usize>> = (1..=100_000).map(|next| vec![next % 100_000]).collect();
        assert_eq!(circles(&chain).len(), 1);
    }
}
