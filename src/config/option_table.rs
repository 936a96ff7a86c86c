//! A table of options, and the struct that holds their values, from the same entries.
//!
//! An option is one entry (`port_options.rs`, `process_options.rs`): its facts for [`OptionSpec`], its
//! parser, and the type of its value. The macro adds the field for the value, so no option can be in
//! the table and have no place to go.
//!
//! [`OptionSpec`]: crate::config::option::OptionSpec

/// Makes a struct of settings and the table of its options from the same entries.
macro_rules! options {
    (
        $(#[$about:meta])* settings $settings:ident, table $table:ident;
        $($field:ident: $type:ty {
            key $key:literal, flag $flag:literal, takes $takes:expr, scope $scope:expr,
            parse $parse:expr,
            default $fallback:expr,
            help $help:literal,
            manual $manual:literal,
            synonyms [$($synonym:literal),* $(,)?] $(,)?
        })*
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $settings {
            $(#[doc = $help] pub $field: $crate::config::setting::Setting<$type>,)*
        }

        /// One entry for each option, in the order of messages, help and manual.
        pub static $table: &[$crate::config::option::OptionSpec] = {
            #[allow(unused_imports)]
            use $crate::config::option::{Fallback::*, Scope::*, Takes::*};
            &[$($crate::config::option::OptionSpec {
                key: $key,
                flag: $flag,
                takes: $takes,
                scope: $scope,
                fallback: $fallback,
                help: $help,
                manual: $manual,
                synonyms: &[$($synonym),*],
            },)*]
        };

        impl $settings {
            /// Parses every option that a source gives, and reports every one that is wrong.
            pub fn parse(
                raw: &$crate::config::raw_options::RawOptions,
                problems: &mut Vec<$crate::error::Problem>,
            ) -> $settings {
                $settings { $($field: raw.parse($key, $parse, problems),)* }
            }

            /// These settings, and the lower ones where these give none and the option is inherited.
            pub fn over(self, lower: &$settings) -> $settings {
                $settings {
                    $($field: {
                        #[allow(unused_imports)]
                        use $crate::config::option::Scope::*;
                        match $scope {
                            Inherited | Process => self.$field.or(lower.$field.clone()),
                            _ => self.$field,
                        }
                    },)*
                }
            }

            /// The program's own values, below all that a user gives.
            pub fn of_the_program() -> $settings {
                let raw = $crate::config::raw_options::RawOptions::of_the_program($table);
                $settings::parse(&raw, &mut Vec::new())
            }
        }
    };
}
pub(crate) use options;
