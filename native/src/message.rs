//! What is kept of a message between reading and deciding.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use xxhash_rust::xxh3::xxh3_128;

use crate::call::{Call, Content, Deferred, Identify, Kept, Membership, Warning};
use crate::definitions::Definitions;
use crate::leaves::Leaves;
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
    View(Py<PyAny>),
    Occurrence(Py<PyAny>),
    Identify,
    Group { company_id: String, update: Vec<u8> },
}

impl Message {
    /// Whether applying it needs the large record of its leaf: `domain.leaf.needs_fields`.
    pub fn needs_fields(&self) -> bool {
        self.traits.is_some() || matches!(self.content, MessageContent::Group { .. })
    }

    /// Keep what is needed of a call; None where Python is to decide it.
    pub fn of<'py>(
        py: Python<'py>,
        leaves: &Leaves,
        call: Call<'_>,
        leaf: &Bound<'py, PyString>,
        definitions: &Definitions,
    ) -> PyResult<Option<Self>> {
        let (mut warnings, at, message_id) = (call.warnings, call.at, call.message_id);
        let mut is_page = false;
        let mut said = None;
        let content = match call.content {
            Content::View(view) => {
                is_page = view.kind == "page";
                let row = PyTuple::new(
                    py,
                    [
                        text(py, &message_id),
                        leaf.clone().into_any(),
                        pyo3::types::PyString::intern(py, view.kind).into_any(),
                        at.into_pyobject(py)?.into_any(),
                        maybe_text(py, view.url.as_deref()),
                        maybe_text(py, view.path.as_deref()),
                        maybe_text(py, view.title.as_deref()),
                        maybe_text(py, view.referrer.as_deref()),
                        maybe_text(py, view.name.as_deref()),
                        text(py, &view.properties),
                    ],
                )?;
                MessageContent::View(leaves.named(py, &leaves.rows.page_view, row)?.unbind())
            }
            Content::Track(track) => {
                warnings.extend(track.ignored);
                said = track.traits;
                let row = PyTuple::new(
                    py,
                    [
                        text(py, &message_id),
                        leaf.clone().into_any(),
                        text(py, &track.event),
                        at.into_pyobject(py)?.into_any(),
                        text(py, &track.properties),
                        maybe_text(py, track.sent_properties.as_deref()),
                    ],
                )?;
                MessageContent::Occurrence(leaves.named(py, &leaves.rows.occurrence, row)?.unbind())
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

fn text<'py>(py: Python<'py>, text: &str) -> Bound<'py, PyAny> {
    PyString::new(py, text).into_any()
}

fn maybe_text<'py>(py: Python<'py>, of: Option<&str>) -> Bound<'py, PyAny> {
    of.map_or_else(|| py.None().into_bound(py), |of| text(py, of))
}
