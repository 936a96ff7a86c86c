//! What the integration tests share; each module opens with its own essay.

pub mod driver;
pub mod frames;
pub mod memory;
pub mod rig;
pub mod stub;
pub mod vmm;
pub mod wire;
