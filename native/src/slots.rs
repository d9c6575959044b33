//! `domain.slots` and `domain.fold`: newest wins, field by field, with the two raw values that a field keeps.

use std::borrow::Cow;

use foldhash::HashMap;
use jiter::JsonValue;

use crate::call::{Deferred, Kept};
use crate::conversion::{convert, text, write_json, write_text, Converted};
use crate::definitions::{Definition, Type};
use crate::state::{Malformed, Reader, Writer};

pub type Defined = HashMap<String, Definition>;

/// `Fallback`: the newest value that converts, where the newest of all does not.
#[derive(Clone, Debug)]
pub struct Said {
    pub value: Kept<'static>,
    pub at: i64,
    pub message_id: String,
    pub source: String,
}

/// `Slot`.
#[derive(Clone, Debug)]
pub struct Slot {
    pub newest: Said,
    pub fallback: Option<Said>,
}

/// The slots of a record by name, in the order of a dict.
#[derive(Clone, Debug, Default)]
pub struct Slots(pub Vec<(String, Slot)>);

/// Tells the JSON text of a value as `domain.conversion.json_text` writes it: the last of all tie-breaks.
pub type JsonText<'a> = &'a dyn Fn(&Kept<'_>) -> String;

impl Said {
    /// Whether it comes after another: by event time, then messageId, then JSON text.
    fn is_newer(&self, than: &Self, json_text: JsonText) -> bool {
        (self.at, &self.message_id)
            .cmp(&(than.at, &than.message_id))
            .then_with(|| json_text(&self.value).cmp(&json_text(&than.value)))
            .is_gt()
    }
}

/// The definition of a name, where it is of another type than `string`.
fn typed<'d>(definitions: &'d Defined, name: &str) -> Option<&'d Definition> {
    definitions.get(name).filter(|definition| definition.kind != Type::String)
}

/// `converts`, given a definition of another type than `string`.
pub fn converts(value: &Kept, definition: &Definition) -> Result<bool, Deferred> {
    with_json(value, |json| {
        Ok(matches!(json, JsonValue::Null) || !matches!(convert(json, definition)?, Converted::Unconvertible))
    })
}

/// `convert_kept` under a definition of another type than `string`, as JSON text; None where nothing is shown.
fn converted(value: &Kept, definition: &Definition) -> Result<Option<String>, Deferred> {
    with_json(value, |json| {
        let mut out = String::new();
        match json {
            JsonValue::Null => return Ok(None),
            _ => match convert(json, definition)? {
                Converted::Same(same) => write_json(same, &mut out)?,
                Converted::Other(other) => write_json(&other, &mut out)?,
                Converted::Unconvertible => return Ok(None),
            },
        }
        Ok(Some(out))
    })
}

fn with_json<R>(value: &Kept, then: impl FnOnce(&JsonValue) -> Result<R, Deferred>) -> Result<R, Deferred> {
    match value {
        Kept::Null => then(&JsonValue::Null),
        Kept::Bool(boolean) => then(&JsonValue::Bool(*boolean)),
        Kept::Int(number) => then(&JsonValue::Int(*number)),
        Kept::Float(number) => then(&JsonValue::Float(*number)),
        Kept::Text(text) => then(&JsonValue::Str(Cow::Borrowed(text))),
        Kept::Json(json) => then(&JsonValue::parse(json.as_bytes(), false).map_err(|_| Deferred)?),
    }
}

impl Slot {
    /// `taken`; None where that changes nothing.
    fn taken(
        &self,
        said: &Said,
        definition: Option<&Definition>,
        json_text: JsonText,
    ) -> Result<Option<Self>, Deferred> {
        let is_newer = said.is_newer(&self.newest, json_text);
        let Some(definition) = definition else {
            return Ok(is_newer.then(|| Self { newest: said.clone(), fallback: None }));
        };
        let converts_here = converts(&said.value, definition)?;
        if is_newer {
            let fallback = if converts_here { None } else { self.newest_that_converts(definition)? };
            return Ok(Some(Self { newest: said.clone(), fallback }));
        }
        if converts(&self.newest.value, definition)? || !converts_here {
            return Ok(None);
        }
        let replaces = self.fallback.as_ref().is_none_or(|fallback| said.is_newer(fallback, json_text));
        Ok(replaces.then(|| Self { newest: self.newest.clone(), fallback: Some(said.clone()) }))
    }

    fn newest_that_converts(&self, definition: &Definition) -> Result<Option<Said>, Deferred> {
        if converts(&self.newest.value, definition)? {
            return Ok(Some(self.newest.clone()));
        }
        match &self.fallback {
            Some(fallback) if converts(&fallback.value, definition)? => Ok(Some(fallback.clone())),
            _ => Ok(None),
        }
    }

    /// `merged`: a slot that has seen what both have seen.
    fn merged(&self, other: &Self, definition: Option<&Definition>, json_text: JsonText) -> Result<Self, Deferred> {
        let mut one = self.clone();
        for said in other.fallback.iter().chain([&other.newest]) {
            if let Some(taken) = one.taken(said, definition, json_text)? {
                one = taken;
            }
        }
        Ok(one)
    }
}

impl Slots {
    pub fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        let count = reader.map()?;
        let mut slots = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            let name = reader.text()?.to_owned();
            if reader.array()? != 5 {
                return Err(Malformed);
            }
            let newest = read_said(reader)?;
            let fallback = if reader.null() {
                None
            } else {
                if reader.array()? != 4 {
                    return Err(Malformed);
                }
                Some(read_said(reader)?)
            };
            slots.push((name, Slot { newest, fallback }));
        }
        Ok(Self(slots))
    }

    /// Read slots whose values are all of some kind; others are Python's.
    pub fn read_of(reader: &mut Reader, is_of: impl Fn(&Kept) -> bool) -> Result<Self, Malformed> {
        let slots = Self::read(reader)?;
        let are_all = slots.0.iter().all(|(_, slot)| is_of(&slot.newest.value));
        are_all.then_some(slots).ok_or(Malformed)
    }

    pub fn write(&self, writer: &mut Writer) {
        writer.map(self.0.len());
        for (name, slot) in &self.0 {
            writer.text(name).array(5);
            write_said(writer, &slot.newest);
            match &slot.fallback {
                Some(fallback) => {
                    writer.array(4);
                    write_said(writer, fallback);
                }
                None => {
                    writer.null();
                }
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&Slot> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, slot)| slot)
    }

    /// Where a name stands; messages mostly name things in the order in which they did before.
    fn place(&self, name: &str, guess: usize) -> Option<usize> {
        if self.0.get(guess).is_some_and(|(known, _)| known == name) {
            return Some(guess);
        }
        self.0.iter().position(|(known, _)| known == name)
    }

    /// `taken_all`: see one value more. Returns whether that has changed anything; `guess` is where it may stand.
    pub fn take(
        &mut self,
        name: &str,
        said: Said,
        guess: usize,
        definitions: &Defined,
        json_text: JsonText,
    ) -> Result<bool, Deferred> {
        let Some(place) = self.place(name, guess) else {
            self.0.push((name.to_owned(), Slot { newest: said, fallback: None }));
            return Ok(true);
        };
        let slot = &mut self.0[place].1;
        let taken = slot.taken(&said, typed(definitions, name), json_text)?;
        Ok(taken.map(|taken| *slot = taken).is_some())
    }

    /// `merged_all`.
    pub fn merge(&mut self, other: Self, definitions: &Defined, json_text: JsonText) -> Result<(), Deferred> {
        for (guess, (name, slot)) in other.0.into_iter().enumerate() {
            match self.place(&name, guess) {
                Some(place) => {
                    let mine = &mut self.0[place].1;
                    *mine = mine.merged(&slot, typed(definitions, &name), json_text)?;
                }
                None => self.0.push((name, slot)),
            }
        }
        Ok(())
    }

    /// `typed_all` as JSON text.
    pub fn typed_json(&self, definitions: &Defined) -> Result<String, Deferred> {
        let mut out = String::with_capacity(2 + 32 * self.0.len());
        out.push('{');
        for (name, slot) in &self.0 {
            let before = out.len();
            if before > 1 {
                out.push(',');
            }
            write_text(name, &mut out);
            out.push(':');
            let is_shown = match typed(definitions, name) {
                None => write_as_text(&slot.newest.value, &mut out)?,
                Some(definition) => {
                    let mut shown = converted(&slot.newest.value, definition)?;
                    if shown.is_none() && !matches!(slot.newest.value, Kept::Null) {
                        if let Some(fallback) = &slot.fallback {
                            shown = converted(&fallback.value, definition)?;
                        }
                    }
                    shown.map(|shown| out.push_str(&shown)).is_some()
                }
            };
            if !is_shown {
                out.truncate(before);
            }
        }
        out.push('}');
        Ok(out)
    }

    /// Whether every conversion that these slots may ask for can be done here.
    pub fn check(&self, definitions: &Defined) -> Result<(), Deferred> {
        for (name, slot) in &self.0 {
            if let Some(definition) = typed(definitions, name) {
                for said in slot.fallback.iter().chain([&slot.newest]) {
                    check(&said.value, definition)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether the conversions of a value under the definition of its name can be done here.
pub fn check_value(name: &str, value: &Kept, definitions: &Defined) -> Result<(), Deferred> {
    typed(definitions, name).map_or(Ok(()), |definition| check(value, definition))
}

fn check(value: &Kept, definition: &Definition) -> Result<(), Deferred> {
    converted(value, definition).map(|_| ())
}

/// Whether a value has no place in the type that its name is defined with.
pub fn is_unconvertible(name: &str, value: &Kept, definitions: &Defined) -> Result<bool, Deferred> {
    typed(definitions, name).map_or(Ok(false), |definition| Ok(!converts(value, definition)?))
}

/// Append what type `string` shows of a value; false where that is nothing.
fn write_as_text(value: &Kept, out: &mut String) -> Result<bool, Deferred> {
    match value {
        Kept::Null => return Ok(false),
        Kept::Text(text) | Kept::Json(text) => write_text(text, out),
        _ => with_json(value, |json| {
            write_text(&text(json)?, out);
            Ok(())
        })?,
    }
    Ok(true)
}

fn read_said(reader: &mut Reader) -> Result<Said, Malformed> {
    Ok(Said {
        value: reader.kept()?,
        at: reader.int()?,
        message_id: reader.text()?.to_owned(),
        source: reader.text()?.to_owned(),
    })
}

fn write_said(writer: &mut Writer, said: &Said) {
    writer.kept(&said.value).int(said.at).text(&said.message_id).text(&said.source);
}
