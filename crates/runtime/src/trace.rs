//! What `--debug` tells: the steps on the way to the program, one line a step.
//!
//! Some are told in runc's words, by which people and tests find them.

use std::fmt;
use std::rc::Rc;

type Tell = dyn Fn(&str);

/// Where the steps are told; by default nowhere.
#[derive(Clone, Default)]
pub struct Trace(Option<Rc<Tell>>);

impl Trace {
    /// Has `tell` told each step.
    pub fn new(tell: impl Fn(&str) + 'static) -> Self {
        Self(Some(Rc::new(tell)))
    }

    /// Whether anybody is told.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Tells a step.
    pub fn say(&self, step: impl FnOnce() -> String) {
        if let Some(tell) = &self.0 {
            tell(&step());
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.is_on()).finish()
    }
}
