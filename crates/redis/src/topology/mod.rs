//! A cluster as its nodes see it.
//!
//! Every node has its own picture ([`View`], the answer of `CLUSTER NODES`). [`Picture`] holds the views of all nodes
//! asked; [`Picture::problems`] compares them. Pure.

mod check;
mod node;
mod picture;

pub use check::Problem;
pub use node::{BadNodes, Flags, Node, NodeId, View};
pub use picture::{Picture, Unheard};

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::check::tests::picture;
    pub(crate) use super::node::tests::id;
}
