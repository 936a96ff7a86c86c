//! System calls for which no crate has a safe form, each behind a function that is safe for every
//! caller.
//!
//! | file | idea |
//! | --- | --- |
//! | [`mapped`] | Memory that is mapped for as long as a value lives |
//! | [`signal`] | What the process does with a signal, where no code of consequence runs for it |
//! | [`tap_ioctl`] | The ioctls of a tap's character device |

pub(crate) mod mapped;
pub(crate) mod signal;
pub(crate) mod tap_ioctl;
