//! Errors that show as a sentence.

/// `Debug` of these errors is their sentence, as `Display` is, because that is what a `main` prints that returns one.
#[doc(hidden)]
#[macro_export]
macro_rules! debug_is_display {
    ($($error:ident $(<$parameter:ident>)?),+ $(,)?) => { $(
        impl $(<$parameter>)? ::core::fmt::Debug for $error $(<$parameter>)? {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Display::fmt(self, f)
            }
        }
    )+ };
}
