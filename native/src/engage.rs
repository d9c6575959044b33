//! `domain.engage`: audiences as memberships, computed traits as attributes.

use std::borrow::Cow;

use jiter::JsonValue;

use crate::call::{Membership, Warning};
use crate::conversion::boolean;
use crate::decoding::{get, part, Object};

/// `MEMBERSHIP_CLASSES`.
const MEMBERSHIP_CLASSES: [&str; 2] = ["audience", "journey_step"];

/// The name and the value of a trait or property.
pub type Found<'v, 'a> = (&'v Cow<'a, str>, &'v JsonValue<'a>);

/// `read_membership`, for a message whose context has `personas`: the membership, and the trait or property that it
/// was found as. `find` finds one, a null too; `other` names the one that names the audience, in a track call.
pub fn read_membership<'v, 'a: 'v>(
    context: &Object<'a>,
    find: impl Fn(&str) -> Option<Found<'v, 'a>>,
    other: Option<&str>,
    warnings: &mut Vec<Warning>,
) -> Option<(Membership, Found<'v, 'a>)> {
    let personas = part(context, "personas", warnings);
    if !computation_class(personas).is_some_and(|class| MEMBERSHIP_CLASSES.contains(&class)) {
        return None;
    }
    let found = named(personas, find, other)?;
    // A name that is cut is left to the twin together with the trait or property that it is of.
    Some((Membership { audience: found.0.to_string(), member: boolean(found.1)? }, found))
}

/// `computed_key`, as the property that a track call brings of a computed trait.
pub fn computed<'v, 'a: 'v>(
    context: &Object<'a>,
    find: impl Fn(&str) -> Option<Found<'v, 'a>>,
) -> Option<Found<'v, 'a>> {
    let Some(JsonValue::Object(personas)) = get(context, "personas") else { return None };
    let class = computation_class(personas)?;
    if class.is_empty() || MEMBERSHIP_CLASSES.contains(&class) {
        return None;
    }
    named(personas, find, Some("trait_key"))
}

fn computation_class<'v>(personas: &'v Object<'_>) -> Option<&'v str> {
    text(get(personas, "computation_class")?)
}

/// What `computation_key` names; where that is no name, what the property `other` names.
fn named<'v, 'a: 'v>(
    personas: &Object<'a>,
    find: impl Fn(&str) -> Option<Found<'v, 'a>>,
    other: Option<&str>,
) -> Option<Found<'v, 'a>> {
    let key = get(personas, "computation_key").and_then(text).filter(|key| !key.is_empty());
    match key {
        Some(key) => find(key),
        None => find(text(find(other?)?.1).filter(|key| !key.is_empty())?),
    }
}

fn text<'v>(value: &'v JsonValue<'_>) -> Option<&'v str> {
    match value {
        JsonValue::Str(text) => Some(text),
        _ => None,
    }
}
