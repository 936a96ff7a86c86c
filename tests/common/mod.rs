//! What several test programs share; each module opens with its own essay.

pub mod backend;
pub mod guest;
pub mod netns;
