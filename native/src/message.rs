//! What is kept of a message between reading and deciding.

use std::borrow::Cow;
use std::ops::Range;

use pyo3::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use crate::call::{Call, Content, Deferred, Identify, Kept, Membership, Warning};
use crate::definitions::Definitions;
use crate::rows::RowWriter;
use crate::slots::{check_value, is_unconvertible, Defined};
use crate::state::encode_update;

/// What is kept of a call between reading and deciding.
pub struct Message {
    pub message_id: String,
    pub seen_key: [u8; 16],
    pub at: i64,
    pub is_page: bool,
    pub claim: Option<String>,
    pub warnings: Vec<Warning>,
    pub content: MessageContent,
    /// What an identify call sets on the profile, or one of Engage.
    pub traits: Option<Traits>,
}

/// `domain.identify.Identify`.
#[derive(Default)]
pub struct Traits {
    pub fields: Vec<(&'static str, Kept<'static>)>,
    pub attributes: Vec<(String, Kept<'static>)>,
    pub membership: Option<Membership>,
}

impl Traits {
    /// Keep what is said; adds to `warnings` what of it is ignored.
    fn of(said: Identify<'_>, definitions: &Defined, warnings: &mut Vec<Warning>) -> Result<Self, Deferred> {
        let count = count_unconvertible(&said.attributes, definitions)?;
        warnings.extend(said.ignored);
        warnings.extend(std::iter::repeat_n("ignored_attribute", count));
        let kept =
            |value: Option<Cow<'_, str>>| value.map_or(Kept::Null, |value| Kept::Text(value.into_owned().into()));
        let attributes = said.attributes.into_iter();
        Ok(Self {
            fields: said.fields.into_iter().map(|(name, value)| (name, kept(value))).collect(),
            attributes: attributes.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
            membership: said.membership,
        })
    }
}

pub enum MessageContent {
    /// Where its row is among those that the cycle has encoded.
    View(Range<usize>),
    Occurrence(Range<usize>),
    Identify,
    Group {
        company_id: String,
        update: Vec<u8>,
    },
}

impl Message {
    /// Whether applying it needs the large record of its leaf: `domain.leaf.needs_fields`.
    pub fn needs_fields(&self) -> bool {
        self.traits.is_some() || matches!(self.content, MessageContent::Group { .. })
    }

    /// Keep what is needed of a call, its row in `rows`; None where Python is to decide it.
    pub fn of(call: Call<'_>, definitions: &Definitions, rows: &mut Vec<u8>) -> PyResult<Option<Self>> {
        let (mut warnings, at, message_id) = (call.warnings, call.at, call.message_id);
        let mut is_page = false;
        let mut said = None;
        let content = match call.content {
            Content::View(view) => {
                is_page = view.kind == "page";
                // As the fields of `contracts.rows.PageView`.
                let mut row = RowWriter::begin(rows);
                row.text(Some(&message_id))?;
                row.text(Some(&call.leaf))?;
                row.text(Some(view.kind))?;
                row.bigint(at);
                row.text(view.url.as_deref())?;
                row.text(view.path.as_deref())?;
                row.text(view.title.as_deref())?;
                row.text(view.referrer.as_deref())?;
                row.text(view.name.as_deref())?;
                row.text(Some(&view.properties))?;
                MessageContent::View(row.end()?)
            }
            Content::Track(track) => {
                warnings.extend(track.ignored);
                said = track.traits;
                // As the fields of `contracts.rows.EventOccurrence`.
                let mut row = RowWriter::begin(rows);
                row.text(Some(&message_id))?;
                row.text(Some(&call.leaf))?;
                row.text(Some(&track.event))?;
                row.bigint(at);
                row.text(Some(&track.properties))?;
                row.text(track.sent_properties.as_deref())?;
                MessageContent::Occurrence(row.end()?)
            }
            Content::Group(group) => {
                match count_unconvertible(&group.attributes, &definitions.company) {
                    Ok(count) => warnings.extend(std::iter::repeat_n("ignored_company_attribute", count)),
                    Err(Deferred) => return Ok(None),
                }
                MessageContent::Group { update: encode_update(&group, &message_id, at), company_id: group.company_id }
            }
            Content::Identify(identify) => {
                said = Some(identify);
                MessageContent::Identify
            }
        };
        let Ok(traits) = said.map(|said| Traits::of(said, &definitions.user, &mut warnings)).transpose() else {
            return Ok(None);
        };
        let mut seen = Vec::with_capacity(call.leaf.len() + 1 + message_id.len());
        seen.extend_from_slice(call.leaf.as_bytes());
        seen.push(0);
        seen.extend_from_slice(message_id.as_bytes());
        Ok(Some(Self {
            seen_key: xxh3_128(&seen).to_be_bytes(),
            message_id: message_id.into_owned(),
            at,
            is_page,
            claim: call.claim,
            warnings,
            content,
            traits,
        }))
    }
}

/// `domain.leaf._unconvertible`; also whether all that these values may ask for can be done here.
fn count_unconvertible(attributes: &[(Cow<'_, str>, Kept<'_>)], definitions: &Defined) -> Result<usize, Deferred> {
    let mut count = 0;
    for (name, value) in attributes {
        check_value(name, value, definitions)?;
        count += usize::from(is_unconvertible(name, value, definitions)?);
    }
    Ok(count)
}
