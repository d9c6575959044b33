//! One Segment message, read: the values of `domain/calls.py`, for the messages that are read here at all.

use std::borrow::Cow;

/// What was odd about a message: the member of `contracts.outcomes.WarningKind`, by its value.
pub type Warning = &'static str;

pub const BLOCKED_USER_ID: Warning = "blocked_user_id";
pub const BLOCKED_ANONYMOUS_ID: Warning = "blocked_anonymous_id";
pub const INVALID_USER_ID: Warning = "invalid_user_id";
pub const INVALID_ANONYMOUS_ID: Warning = "invalid_anonymous_id";
pub const UNREADABLE_TIME: Warning = "unreadable_time";
pub const FUTURE_TIME: Warning = "future_time";
pub const WRONG_SHAPE: Warning = "wrong_shape";
pub const CLAIM_LIMIT: Warning = "claim_limit";
pub const IGNORED_FIELD: Warning = "ignored_field";
pub const IGNORED_PROPERTY: Warning = "ignored_property";

/// Why nothing is said of a message here: it is one for the Python twin.
#[derive(Debug)]
pub struct Deferred;

/// A raw value in the form that state keeps: `contracts.records.Kept`.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    /// The compact JSON of an array or object.
    Json(Cow<'a, str>),
}

impl Kept<'_> {
    pub fn into_owned(self) -> Kept<'static> {
        match self {
            Self::Null => Kept::Null,
            Self::Bool(value) => Kept::Bool(value),
            Self::Int(number) => Kept::Int(number),
            Self::Float(number) => Kept::Float(number),
            Self::Text(text) => Kept::Text(text.into_owned().into()),
            Self::Json(json) => Kept::Json(json.into_owned().into()),
        }
    }
}

/// `domain.engage.Membership`: an audience, and whether a profile is in it from one message on.
#[derive(Clone, Debug)]
pub struct Membership {
    pub audience: String,
    pub member: bool,
}

/// `domain.identify.Identify`.
#[derive(Debug, Default)]
pub struct Identify<'a> {
    /// Standard fields by name; each at most once, as in a dict.
    pub fields: Vec<(&'static str, Option<Cow<'a, str>>)>,
    /// Custom attributes by bounded name; each at most once.
    pub attributes: Vec<(Cow<'a, str>, Kept<'a>)>,
    pub membership: Option<Membership>,
    pub ignored: Vec<Warning>,
}

/// `contracts.rows.PageView`, without what the call itself says.
#[derive(Debug)]
pub struct View<'a> {
    /// `page` or `screen`.
    pub kind: &'static str,
    pub url: Option<Cow<'a, str>>,
    pub path: Option<Cow<'a, str>>,
    pub title: Option<Cow<'a, str>>,
    pub referrer: Option<Cow<'a, str>>,
    pub name: Option<Cow<'a, str>>,
    /// JSON text, as sent.
    pub properties: String,
}

/// `contracts.rows.EventOccurrence`, without what the call itself says: typed by the definitions already.
#[derive(Debug)]
pub struct Occurrence<'a> {
    pub event: Cow<'a, str>,
    /// JSON text, typed by the definitions.
    pub properties: String,
    /// JSON text, as sent; None where equal to `properties`.
    pub sent_properties: Option<String>,
    /// One for each property that does not convert.
    pub ignored: Vec<Warning>,
    /// What a call of Engage sets on the profile besides.
    pub traits: Option<Identify<'a>>,
}

/// `domain.groups.Group`.
#[derive(Debug)]
pub struct Group<'a> {
    pub company_id: String,
    /// Standard fields by name; each at most once.
    pub fields: Vec<(&'static str, Option<Cow<'a, str>>)>,
    /// Custom attributes by name; each at most once.
    pub attributes: Vec<(Cow<'a, str>, Kept<'a>)>,
}

#[derive(Debug)]
pub enum Content<'a> {
    View(View<'a>),
    Track(Occurrence<'a>),
    Identify(Identify<'a>),
    Group(Group<'a>),
}

impl Content<'_> {
    /// Segment's type of the call.
    pub fn kind(&self) -> &'static str {
        match self {
            Content::View(view) => view.kind,
            Content::Track(_) => "track",
            Content::Identify(_) => "identify",
            Content::Group(_) => "group",
        }
    }
}

/// `domain.calls.Call`.
#[derive(Debug)]
pub struct Call<'a> {
    /// Key of the leaf, `user:<userId>` or `anon:<anonymousId>`.
    pub leaf: String,
    pub message_id: Cow<'a, str>,
    /// Event time, microseconds since 1970-01-01 UTC.
    pub at: i64,
    /// Key of the anonymous leaf that the message claims for its user leaf.
    pub claim: Option<String>,
    pub warnings: Vec<Warning>,
    pub content: Content<'a>,
}

/// What reading a message came to.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are calls: a box would only be an allocation for each")]
pub enum Read<'a> {
    Call(Call<'a>),
    /// `(scope, name)` pairs that nothing defines yet (`domain.calls.missing`): to be defined, then read again.
    Undefined(Vec<(String, String)>),
    /// A message that the Python twin is to read: refused ones, odd ones, kinds that are rare.
    Defer,
}
