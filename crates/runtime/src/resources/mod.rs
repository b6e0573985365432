//! What a container may use, and what it does use: control groups and resctrl.

pub(crate) mod events;
pub(crate) mod group;
pub(crate) mod resctrl;
pub(crate) mod update;
