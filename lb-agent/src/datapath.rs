//! The kernel side of the shell: loading, attaching, pinning, and what the node's namespaces and devices say.

pub mod attach;
pub mod canary;
pub mod grace;
pub mod install;
pub mod load;
pub mod namespaces;
pub mod netlink;
pub mod node;
pub mod pin;
pub mod pods;
pub mod privileges;
pub mod probe;
pub mod sockets;
pub(crate) mod sys;
