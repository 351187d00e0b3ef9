//! Which address each client is offered.

use std::collections::{BTreeSet, HashMap};

use super::{Address, ClientId};

#[derive(Debug)]
pub(super) struct Offered<A> {
    pub(super) by_client: HashMap<ClientId, A>,
    /// In order, so that those of one machine are side by side; where it can have several.
    owned: BTreeSet<ClientId>,
}

impl<A: Address> Offered<A> {
    pub fn new() -> Self {
        Self { by_client: HashMap::new(), owned: BTreeSet::new() }
    }

    pub fn get(&self, client: &ClientId) -> Option<A> {
        self.by_client.get(client).copied()
    }

    /// What it was offered before.
    pub fn insert(&mut self, client: ClientId, address: A) -> Option<A> {
        if A::HAS_OWNERS {
            self.owned.insert(client.clone());
        }
        self.by_client.insert(client, address)
    }

    pub fn remove(&mut self, client: &ClientId) -> Option<A> {
        if A::HAS_OWNERS {
            self.owned.remove(client);
        }
        self.by_client.remove(client)
    }

    /// Clients of one machine.
    pub fn owned_by<'a>(&'a self, owner: &'a [u8]) -> impl Iterator<Item = &'a ClientId> {
        let from = self.owned.range(ClientId::new(owner)..);
        let begins = from.take_while(move |client| client.0.starts_with(owner));
        begins.filter(move |client| A::owner(&client.0) == owner)
    }
}
