//! What several test programs share. Each of them compiles this anew and uses a part of it.
#![allow(dead_code)]

pub mod backend;
pub mod guest;
pub mod netns;
