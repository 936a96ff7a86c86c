//! System calls for which no crate has a safe form, each behind a function that is safe for every caller.
//!
//! | file | idea |
//! | --- | --- |
//! | [`tap_ioctl`] | The ioctls of a tap's character device |

pub(crate) mod tap_ioctl;
