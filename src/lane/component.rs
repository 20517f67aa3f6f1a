//! The state that endpoints keep on a core between requests, and their work outside of requests. The lane stores
//! components without knowing any of them by name.

use std::any::Any;
use std::rc::Rc;

use super::state::Lane;

/// The state of one feature on one core.
pub trait Component: Any {
    /// Spawns the component's tasks. It is called once, when the core starts.
    fn start(&self, _lane: &Rc<Lane>) {}

    /// Runs whenever the core does its housekeeping.
    fn tick(&self, _lane: &Lane) {}

    /// Releases some of the memory that the component holds only for speed. Returns `true` if there was any.
    fn release_memory(&self) -> bool {
        false
    }
}

/// A core's components, at most one of each type.
#[derive(Default)]
pub struct Components(Vec<Box<dyn Component>>);

impl Components {
    pub fn with(mut self, component: impl Component) -> Components {
        self.0.push(Box::new(component));
        self
    }

    /// Returns the component of this type. There are few, so the search is linear.
    ///
    /// # Panics
    /// Panics if the core was started without the component.
    pub fn get<T: Component>(&self) -> &T {
        let found = self.0.iter().find_map(|component| (&**component as &dyn Any).downcast_ref());
        found.unwrap_or_else(|| unreachable!("no component {}", std::any::type_name::<T>()))
    }

    pub fn start(&self, lane: &Rc<Lane>) {
        self.0.iter().for_each(|component| component.start(lane));
    }

    pub fn tick(&self, lane: &Lane) {
        self.0.iter().for_each(|component| component.tick(lane));
    }

    pub fn release_memory(&self) -> bool {
        self.0.iter().any(|component| component.release_memory())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Cache(Cell<u32>);
    struct Other(&'static str);

    impl Component for Cache {
        fn release_memory(&self) -> bool {
            let left = self.0.get();
            self.0.set(left.saturating_sub(1));
            left > 0
        }
    }

    impl Component for Other {}

    #[test]
    fn a_component_is_found_by_its_type_and_gives_memory_back_until_it_has_none() {
        let components = Components::default().with(Other("other")).with(Cache(Cell::new(2)));
        assert_eq!(components.get::<Other>().0, "other");
        assert_eq!([(); 3].map(|()| components.release_memory()), [true, true, false]);
        assert_eq!(components.get::<Cache>().0.get(), 0);
    }
}
