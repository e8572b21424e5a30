//! A thin or empty list is more often a fault than a wish.

use super::Step;
use crate::features::template::inputs;
use crate::features::template::render::RenderedSet;
use regrow_model::Plan;
use regrow_model::observed::{Inputs, Stage};
use regrow_model::plan::Rule;

impl Step<'_> {
    /// Whether every service has as many healthy endpoints as `guard.min` asks for.
    pub(super) fn enough(&self, inputs: &Inputs, plan: &mut Plan) -> bool {
        let thin = self.template.spec.guard.min.iter().find_map(|(service, min)| {
            let healthy = inputs::healthy(self.view, service);
            (healthy < *min).then(|| format!("service/{service} has {healthy} healthy endpoints, guard.min is {min}"))
        });
        let Some(reason) = thin else { return true };
        self.guarded(inputs, &reason, plan);
        false
    }

    /// Whether no service that the good set holds endpoints of would become empty.
    pub(super) fn may_be_loaded(&self, set: &RenderedSet, plan: &mut Plan) -> bool {
        if !self.template.spec.guard.refuse_empty {
            return true;
        }
        let Some(loaded) = &self.status.loaded else { return true };
        let emptied = set.inputs.healthy.iter().find_map(|(service, healthy)| {
            let had = loaded.inputs.healthy.get(service).copied().unwrap_or(0);
            (*healthy == 0 && had > 0).then(|| {
                format!("service/{service} has no healthy endpoint left of {had}, and guard.refuse_empty is set")
            })
        });
        let Some(reason) = emptied else { return true };
        self.guarded(&set.inputs, &reason, plan);
        false
    }

    /// Holds. Before the first set there is nothing to guard, only something to wait for: no problem, no event.
    fn guarded(&self, inputs: &Inputs, reason: &str, plan: &mut Plan) {
        self.hold(Rule::Guard, reason, None, plan);
        if self.status.written.is_some() {
            self.refuse(Stage::Guard, reason, inputs.clone(), None, plan);
        }
    }
}
