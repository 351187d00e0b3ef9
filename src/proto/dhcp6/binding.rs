//! What the one guest gets (RFC 8415 §18.3), message by message; clients of a pool: see `assign`.
//!
//! It has no binding that could be there or not, so each of its messages is decided by itself.
//! Its first `IA_NA` is the one that has the addresses.
//!
//! ```text
//! SOLICIT             ADVERTISE, or REPLY with rapid commit     the current addresses
//! REQUEST             REPLY    the current addresses; NotOnLink where it names another
//! RENEW, REBIND       REPLY    the current addresses; previous and unknown ones have ended
//! CONFIRM             REPLY    Success, NotOnLink; silence where it names none
//! RELEASE, DECLINE    REPLY    Success
//! ```

use std::net::Ipv6Addr;

use dhcproto::v6::{MessageType, Status};

use super::message::{Association, Kind, Message};
use super::{Lifetimes, Reason};

/// What the policy decides; the rest of a reply follows from it.
#[derive(Debug)]
pub(super) struct Decision<'a> {
    /// ADVERTISE or REPLY.
    pub kind: MessageType,
    pub status: Option<Status>,
    pub associations: Vec<(&'a Association, Content)>,
    pub rapid_commit: bool,
    /// Whether what the client asks for is said, too.
    pub parameters: bool,
    /// None: those of the settings.
    pub lifetimes: Option<Lifetimes>,
    /// Addresses that somebody else has, says the client.
    pub declined: Vec<Ipv6Addr>,
}

/// What an identity association gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Addresses with their lifetimes, and those whose lifetimes are 0.
    Lease { given: Vec<Ipv6Addr>, ended: Vec<Ipv6Addr> },
    /// Nothing, and why.
    Refused(Status),
}

impl Decision<'_> {
    pub fn new(kind: MessageType) -> Self {
        Self {
            kind,
            status: None,
            associations: Vec::new(),
            rapid_commit: false,
            parameters: true,
            lifetimes: None,
            declined: Vec::new(),
        }
    }

    /// A status for the whole message, and nothing else.
    pub fn status(status: Status) -> Self {
        let new = Self::new(MessageType::Reply);
        Self { status: Some(status), parameters: false, ..new }
    }

    /// Whether it has an address for nobody who asked for one.
    pub fn is_exhausted(&self) -> bool {
        let mut all = self.associations.iter().map(|(_, content)| content);
        let refused = |content: &Content| *content == Content::Refused(Status::NoAddrsAvail);
        all.clone().any(refused) && !all.any(|it| matches!(it, Content::Lease { .. }))
    }

    /// Those that the client has now, or may have.
    pub fn given(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.associations
            .iter()
            .flat_map(|(_, content)| match content {
                Content::Lease { given, .. } => given.as_slice(),
                Content::Refused(_) => &[],
            })
            .copied()
    }
}

/// None: a message that has no answer, though nothing is wrong with it.
pub(super) fn decide<'a>(
    (current, previous): (&[Ipv6Addr], &[Ipv6Addr]),
    rapid_commit: bool,
    message: &'a Message,
) -> Result<Option<Decision<'a>>, Reason> {
    let guest = Guest { current, previous, message };
    match message.kind {
        MessageType::Solicit => Ok(Some(guest.solicit(rapid_commit))),
        MessageType::Request => Ok(Some(guest.request())),
        MessageType::Renew | MessageType::Rebind => Ok(Some(guest.renew())),
        MessageType::Confirm => Ok(guest.confirm()),
        MessageType::Release | MessageType::Decline => Ok(Some(guest.release())),
        MessageType::InformationRequest => Ok(Some(Decision::new(MessageType::Reply))),
        _ => Err(Reason::UnknownMessageType),
    }
}

/// The one guest, and what it says.
struct Guest<'s, 'a> {
    current: &'s [Ipv6Addr],
    previous: &'s [Ipv6Addr],
    message: &'a Message<'a>,
}

impl<'a> Guest<'_, 'a> {
    /// RFC 8415 §18.3.1, §18.3.9. Which addresses it would like changes nothing.
    fn solicit(&self, rapid_commit: bool) -> Decision<'a> {
        let associations = self.associations(|_| self.lease(Vec::new()));
        let leases =
            associations.iter().any(|(_, content)| matches!(content, Content::Lease { .. }));
        let rapid_commit = rapid_commit && self.message.rapid_commit && leases;
        let kind = if rapid_commit { MessageType::Reply } else { MessageType::Advertise };
        Decision { associations, rapid_commit, ..Decision::new(kind) }
    }

    /// RFC 8415 §18.3.2. One that names another address asks again without it.
    fn request(&self) -> Decision<'a> {
        let associations = self.associations(|association| {
            if association.addresses.iter().all(|address| self.current.contains(address)) {
                self.lease(Vec::new())
            } else {
                Content::Refused(Status::NotOnLink)
            }
        });
        Decision { associations, ..Decision::new(MessageType::Reply) }
    }

    /// RFC 8415 §18.3.4, §18.3.5. The guest may have slept while its address changed more than once, so that any other
    /// address has ended.
    fn renew(&self) -> Decision<'a> {
        let associations = self.associations(|association| {
            let mut ended = self.previous.to_vec();
            for address in &association.addresses {
                if !self.current.contains(address) && !ended.contains(address) {
                    ended.push(*address);
                }
            }
            self.lease(ended)
        });
        Decision { associations, ..Decision::new(MessageType::Reply) }
    }

    /// RFC 8415 §18.3.3.
    fn confirm(&self) -> Option<Decision<'a>> {
        let mut named = self.message.named().peekable();
        named.peek()?;
        let on_link = named.all(|address| self.current.contains(&address));
        Some(Decision::status(if on_link { Status::Success } else { Status::NotOnLink }))
    }

    /// RFC 8415 §18.3.7, §18.3.8. The guest's address is nobody else's, whatever it says of it.
    fn release(&self) -> Decision<'a> {
        let first = self.first();
        let others = self.message.associations.iter().enumerate();
        let associations = others
            .filter(|(at, _)| Some(*at) != first)
            .map(|(_, association)| (association, Content::Refused(Status::NoBinding)))
            .collect();
        Decision { associations, ..Decision::status(Status::Success) }
    }

    /// The first `IA_NA` gets its content, and all others why they get none.
    fn associations(
        &self,
        content: impl Fn(&Association) -> Content,
    ) -> Vec<(&'a Association, Content)> {
        let first = self.first();
        let answered = |(at, association): (usize, &'a Association)| {
            let content = match association.kind {
                Kind::Lasting if Some(at) == first => content(association),
                Kind::Lasting | Kind::Temporary => Content::Refused(Status::NoAddrsAvail),
                Kind::Prefixes => Content::Refused(Status::NoPrefixAvail),
            };
            (association, content)
        };
        self.message.associations.iter().enumerate().map(answered).collect()
    }

    fn first(&self) -> Option<usize> {
        self.message.associations.iter().position(|it| it.kind == Kind::Lasting)
    }

    fn lease(&self, ended: Vec<Ipv6Addr>) -> Content {
        Content::Lease { given: self.current.to_vec(), ended }
    }
}
