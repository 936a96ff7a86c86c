//! A value that may be missing or wrong.
//!
//! A wrong value has been reported already. It still hides what lies below and still counts as given,
//! so that one mistake yields one message and not three (`--parent 'eth 0'` is not also "parent
//! missing").

/// A value that a source may give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Setting<T> {
    /// Not given here.
    #[default]
    Absent,
    /// Given, but wrong, which has been reported.
    Bad,
    /// Given.
    Is(T),
}

impl<T> Setting<T> {
    /// This value, or if there is none the lower layer's.
    pub fn or(self, lower: Setting<T>) -> Setting<T> {
        if matches!(self, Setting::Absent) { lower } else { self }
    }

    /// The value, if it is there and good.
    pub fn get(&self) -> Option<&T> {
        match self {
            Setting::Is(value) => Some(value),
            _ => None,
        }
    }

    /// True if the source gives no value.
    pub fn is_absent(&self) -> bool {
        matches!(self, Setting::Absent)
    }
}
