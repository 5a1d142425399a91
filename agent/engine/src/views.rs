//! The state in force, as a worker sees it.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use crate::{
    random::Random,
    state::{Shared, State},
    upstream::balance::Balance,
};

/// The state in force, and whose turn it is in it.
pub(crate) struct View {
    pub(crate) state: Arc<State>,
    pub(crate) balance: RefCell<Balance>,
}

/// A worker's views, one after the other.
pub(crate) struct Views {
    shared: Arc<Shared>,
    random: RefCell<Random>,
    latest: RefCell<Rc<View>>,
}

impl Views {
    pub(crate) fn new(shared: &Arc<Shared>) -> Rc<Self> {
        let mut random = Random::from_system();
        let state = shared.state.load_full();
        let balance = RefCell::new(Balance::new(&state, None, &mut random));
        let latest = RefCell::new(Rc::new(View { state, balance }));
        Rc::new(Self { shared: Arc::clone(shared), random: RefCell::new(random), latest })
    }

    /// The state in force now. A request keeps what it got.
    pub(crate) fn latest(&self) -> Rc<View> {
        let state = self.shared.state.load();
        let mut view = self.latest.borrow_mut();
        if !Arc::ptr_eq(&state, &view.state) {
            let old = view.balance.borrow();
            let balance = RefCell::new(Balance::new(&state, Some((&view.state, &old)), &mut self.random.borrow_mut()));
            drop(old);
            *view = Rc::new(View { state: Arc::clone(&state), balance });
        }
        Rc::clone(&view)
    }
}
