//! A leaf's state, and what messages and letters do to it: `domain.leaf`, `domain.ownership` and `domain.fold`, for
//! leaves that one user claims at most, and that no operator has spoken of.

use std::collections::{BTreeMap, BTreeSet};

use crate::call::{Deferred, Kept, Membership};
use crate::message::Traits;
use crate::slots::{Defined, JsonText, Said, Slots};
use crate::state::{decode_given, Contribution, Counters, Fields, Giver, Links, Malformed, OneClaim};

pub const USER: &str = "user:";
/// Anonymous leaves that one user leaf claims at most: `domain.ownership.ANONYMOUS_LEAVES_MAX`.
const ANONYMOUS_LEAVES_MAX: usize = 1_000;

/// A leaf's state, and what a cycle does to it.
#[derive(Default)]
pub struct Leaf {
    pub name: String,
    pub is_user: bool,
    pub is_left_to_python: bool,
    pub counters: Option<Counters>,
    pub links: Option<Links>,
    pub claim: Option<OneClaim>,
    pub counters_changed: bool,
    pub links_changed: bool,
    pub claim_changed: bool,
    pub fields: Option<Fields>,
    /// What anonymous leaves have given, as `GivenFields`, by giver.
    pub given: BTreeMap<String, Vec<u8>>,
    /// Givers whose gift has changed.
    pub given_changed: BTreeSet<String>,
    pub fields_changed: bool,
    /// Whether the large records are needed.
    pub needs_fields: bool,
    /// Whether an anonymous leaf's facts have changed.
    pub is_moved: bool,
    /// Whether it was nobody's before this cycle, and is claimed now.
    pub was_unowned: bool,
    pub is_resolved: bool,
    pub is_touched: bool,
    /// Whether more than the counters of its profile's row may have changed.
    pub is_touched_whole: bool,
}

impl Leaf {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), is_user: name.starts_with(USER), ..Self::default() }
    }

    pub fn key(&self, prefix: u8) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + self.name.len());
        key.push(prefix);
        key.extend_from_slice(self.name.as_bytes());
        key
    }

    pub fn given_key(&self, giver: &str) -> Vec<u8> {
        let mut key = self.key(b'g');
        key.push(0);
        key.extend_from_slice(giver.as_bytes());
        key
    }
}

/// What a claim of an anonymous leaf comes to: `domain.ownership.claiming`.
pub enum Claiming {
    Known,
    New,
    Refused,
}

impl Leaf {
    pub fn take_in(&mut self, counters: Option<&[u8]>, other: Option<&[u8]>) -> Result<(), Malformed> {
        self.counters = counters.map(Counters::decode).transpose()?;
        if self.is_user {
            self.links = other.map(Links::decode).transpose()?;
        } else if let Some(data) = other {
            self.claim = Some(OneClaim::decode(data)?.ok_or(Malformed)?);
            // It gives them to its owner.
            self.needs_fields = true;
        }
        Ok(())
    }

    /// Names of the anonymous leaves whose fields a user leaf was given.
    pub fn givers(&self) -> impl Iterator<Item = &str> {
        let givers = self.links.iter().flat_map(|links| &links.givers);
        givers.filter(|(_, giver)| giver.has_fields).map(|(name, _)| name.as_str())
    }

    pub fn take_in_fields(
        &mut self,
        fields: Option<&[u8]>,
        given: BTreeMap<String, Vec<u8>>,
        definitions: &Defined,
    ) -> Result<(), Malformed> {
        self.fields = fields.map(Fields::decode).transpose()?;
        if let Some(fields) = &self.fields {
            fields.attributes.check(definitions).map_err(|_| Malformed)?;
        }
        given.values().try_for_each(|given| check_given(given, definitions))?;
        self.given = given;
        Ok(())
    }

    /// Count a message, unless it is known: `domain.leaf.apply`. Returns whether the counters have moved.
    pub fn count(&mut self, at: i64, is_page: bool, is_known: bool) -> bool {
        if is_known {
            return false;
        }
        let is_first = self.counters.is_none();
        let counters = self.counters.get_or_insert(Counters { page_views: 0, first_seen: at, last_seen: None });
        let has_moved = is_first || is_page || at < counters.first_seen;
        counters.first_seen = counters.first_seen.min(at);
        if is_page {
            counters.page_views += 1;
            counters.last_seen = counters.last_seen.max(Some(at));
        }
        self.counters_changed |= has_moved;
        has_moved
    }

    /// See what an identify call says, or one of Engage: `domain.leaf._identified`.
    pub fn identify(
        &mut self,
        traits: Traits,
        said: impl Fn(Kept<'static>) -> Said,
        definitions: &Defined,
        json_text: JsonText,
    ) -> Result<(), Deferred> {
        let held = self.fields.get_or_insert_default();
        let nothing = Defined::default();
        for (guess, (name, value)) in traits.fields.into_iter().enumerate() {
            self.fields_changed |= held.fields.take(name, said(value), guess, &nothing, json_text)?;
        }
        for (guess, (name, value)) in traits.attributes.into_iter().enumerate() {
            self.fields_changed |= held.attributes.take(&name, said(value), guess, definitions, json_text)?;
        }
        if let Some(Membership { audience, member }) = traits.membership {
            self.fields_changed |=
                held.memberships.take(&audience, said(Kept::Bool(member)), 0, &nothing, json_text)?;
        }
        Ok(())
    }

    /// The membership of an audience that holds; None where no message has spoken of it.
    pub fn membership(&self, audience: &str) -> Option<&Said> {
        Some(&self.fields.as_ref()?.memberships.get(audience)?.newest)
    }

    /// Join a company, unless it is known; returns since when: `domain.leaf._grouped`.
    pub fn join(&mut self, company_id: &str, at: i64, is_known: bool) -> i64 {
        if is_known {
            let companies = self.fields.iter().flat_map(|fields| &fields.companies);
            let joined_at = companies.filter(|(known, _)| known == company_id).map(|(_, joined_at)| *joined_at);
            return joined_at.fold(at, i64::min);
        }
        let (joined_at, has_joined) = self.fields.get_or_insert_default().join(company_id, at);
        self.fields_changed |= has_joined;
        joined_at
    }

    /// Note that it claims an anonymous leaf: `domain.ownership.claiming`.
    pub fn claiming(&mut self, anonymous: &str, at: i64, message_id: &str, is_known: bool) -> Claiming {
        let claimed = self.links.as_mut().map(|links| &mut links.claimed);
        let sent = claimed.as_ref().and_then(|claimed| claimed.iter().position(|(leaf, ..)| leaf == anonymous));
        let count = claimed.as_ref().map_or(0, |claimed| claimed.len());
        match (sent, claimed) {
            (Some(place), Some(claimed)) => {
                let (_, sent_at, sent_id) = &mut claimed[place];
                if (*sent_at, sent_id.as_str()) <= (at, message_id) || is_known {
                    return Claiming::Known;
                }
                (*sent_at, *sent_id) = (at, message_id.to_owned());
            }
            _ if count >= ANONYMOUS_LEAVES_MAX => return Claiming::Refused,
            _ if is_known => return Claiming::Known,
            _ => {
                let links = self.links.get_or_insert_default();
                links.claimed.push((anonymous.to_owned(), at, message_id.to_owned()));
            }
        }
        self.links_changed = true;
        Claiming::New
    }

    /// `domain.ownership.claimed`, where one user claims.
    pub fn take_in_claim(&mut self, letter: &OneClaim) {
        if let Some(known) = &self.claim {
            if (known.at, &known.message_id) <= (letter.at, &letter.message_id) {
                return;
            }
        } else {
            self.was_unowned = true;
        }
        self.claim = Some(letter.clone());
        self.claim_changed = true;
    }

    /// `domain.ownership.received`.
    pub fn receive(&mut self, letter: &Contribution) {
        let givers = &mut self.links.get_or_insert_default().givers;
        let has_fields = letter.given.is_some();
        let giver = Giver { version: letter.version, counters: letter.counters.clone(), has_fields };
        match givers.iter_mut().find(|(name, _)| *name == letter.giver) {
            Some((_, held)) if held.version >= letter.version => return,
            Some((_, held)) => *held = giver,
            None => givers.push((letter.giver.clone(), giver)),
        }
        self.links_changed = true;
        let before = match &letter.given {
            Some(given) => self.given.insert(letter.giver.clone(), given.clone()),
            None => self.given.remove(&letter.giver),
        };
        if has_fields || before.is_some() {
            self.given_changed.insert(letter.giver.clone());
        }
    }

    /// `domain.fold.folded`: its own fields and those it was given, as fields and attributes.
    pub fn folded(&self, definitions: &Defined, json_text: JsonText) -> Result<(Slots, Slots), Odd> {
        let (mut fields, mut attributes) = match &self.fields {
            Some(own) => (own.fields.clone(), own.attributes.clone()),
            None => (Slots::default(), Slots::default()),
        };
        let nothing = Defined::default();
        for giver in self.givers() {
            let (given_fields, given_attributes) = decode_given(self.given.get(giver).ok_or(Malformed)?)?;
            fields.merge(given_fields, &nothing, json_text)?;
            attributes.merge(given_attributes, definitions, json_text)?;
        }
        Ok((fields, attributes))
    }

    /// The counters of the profile that the leaf is the root of: `streams.agents.leaf_state.root_counters`.
    pub fn root_counters(&self) -> Option<Counters> {
        if self.claim.is_some() {
            return None;
        }
        let given = self.links.iter().flat_map(|links| &links.givers).filter_map(|(_, giver)| giver.counters.as_ref());
        self.counters.iter().chain(given).cloned().reduce(|mut sum, each| {
            sum.add(&each);
            sum
        })
    }
}

/// What was found fit for being decided here turns out not to be: a bug.
#[derive(Debug)]
pub struct Odd;

impl From<Malformed> for Odd {
    fn from(_: Malformed) -> Self {
        Self
    }
}

impl From<Deferred> for Odd {
    fn from(_: Deferred) -> Self {
        Self
    }
}

pub fn check_given(data: &[u8], definitions: &Defined) -> Result<(), Malformed> {
    decode_given(data)?.1.check(definitions).map_err(|_| Malformed)
}
