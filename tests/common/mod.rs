//! What the integration tests share; each module opens with its own essay.

pub mod backend;
pub mod blind;
pub mod bulk;
pub mod driver;
pub mod exchange;
pub mod frames;
pub mod freeze;
pub mod guest;
pub mod inspector;
pub mod memory;
pub mod neighbour;
pub mod netns;
pub mod rig;
pub mod scene;
pub mod silent_file;
pub mod vmm;
pub mod wire;
