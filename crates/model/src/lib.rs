//! The nouns of Regrow: ids, keys, revisions, the spec, the view, plans, actions, outcomes, events.
