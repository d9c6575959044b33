//! The small records of state, and the letters between leaves, in MessagePack as `contracts/records.py` lays them out:
//! arrays that begin with the schema version. What cannot be read here is Python's to refuse.

use rmp::encode::{write_array_len, write_bool, write_f64, write_map_len, write_nil, write_sint, write_str};
use rmp::Marker;

use crate::call::{Group, Kept};
use crate::slots::Slots;

pub const SCHEMA_VERSION: i64 = 1;

/// Page views of one leaf that are counted here, a trillion: those of millions of leaves add up within 64 bits.
const PAGE_VIEWS_MAX: i64 = 1 << 40;

/// A record that is not laid out as expected.
#[derive(Debug)]
pub struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// Reads MessagePack from the beginning of a slice on.
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Enter a record of so many elements, its version included.
    pub fn record(data: &'a [u8], elements: usize) -> Result<Self> {
        let mut reader = Self::new(data);
        reader.version(elements)?;
        Ok(reader)
    }

    fn version(&mut self, elements: usize) -> Result<()> {
        (self.array()? == elements && self.int()? == SCHEMA_VERSION).then_some(()).ok_or(Malformed)
    }

    pub fn end(&self) -> Result<()> {
        (self.at == self.data.len()).then_some(()).ok_or(Malformed)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let found = self.data.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(found)
    }

    fn marker(&mut self) -> Result<Marker> {
        Ok(Marker::from_u8(self.bytes(1)?[0]))
    }

    fn unsigned(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.bytes(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn count(&mut self, bytes: usize) -> Result<usize> {
        Ok(self.unsigned(bytes)? as usize)
    }

    pub fn int(&mut self) -> Result<i64> {
        Ok(match self.marker()? {
            Marker::FixPos(number) => i64::from(number),
            Marker::FixNeg(number) => i64::from(number),
            Marker::U8 => self.unsigned(1)? as i64,
            Marker::U16 => self.unsigned(2)? as i64,
            Marker::U32 => self.unsigned(4)? as i64,
            Marker::U64 => i64::try_from(self.unsigned(8)?).map_err(|_| Malformed)?,
            Marker::I8 => i64::from(self.unsigned(1)? as i8),
            Marker::I16 => i64::from(self.unsigned(2)? as i16),
            Marker::I32 => i64::from(self.unsigned(4)? as i32),
            Marker::I64 => self.unsigned(8)? as i64,
            _ => return Err(Malformed),
        })
    }

    pub fn text(&mut self) -> Result<&'a str> {
        let count = match self.marker()? {
            Marker::FixStr(count) => usize::from(count),
            Marker::Str8 => self.count(1)?,
            Marker::Str16 => self.count(2)?,
            Marker::Str32 => self.count(4)?,
            _ => return Err(Malformed),
        };
        std::str::from_utf8(self.bytes(count)?).map_err(|_| Malformed)
    }

    pub fn array(&mut self) -> Result<usize> {
        match self.marker()? {
            Marker::FixArray(count) => Ok(usize::from(count)),
            Marker::Array16 => self.count(2),
            Marker::Array32 => self.count(4),
            _ => Err(Malformed),
        }
    }

    pub fn map(&mut self) -> Result<usize> {
        match self.marker()? {
            Marker::FixMap(count) => Ok(usize::from(count)),
            Marker::Map16 => self.count(2),
            Marker::Map32 => self.count(4),
            _ => Err(Malformed),
        }
    }

    /// A value in the form that state keeps.
    pub fn kept(&mut self) -> Result<Kept<'static>> {
        let begin = self.at;
        Ok(match self.marker()? {
            Marker::Null => Kept::Null,
            Marker::True => Kept::Bool(true),
            Marker::False => Kept::Bool(false),
            Marker::F64 => Kept::Float(f64::from_bits(self.unsigned(8)?)),
            Marker::FixArray(1) => Kept::Json(self.text()?.to_owned().into()),
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                self.at = begin;
                Kept::Text(self.text()?.to_owned().into())
            }
            _ => {
                self.at = begin;
                Kept::Int(self.int()?)
            }
        })
    }

    pub fn bool(&mut self) -> Result<bool> {
        match self.marker()? {
            Marker::True => Ok(true),
            Marker::False => Ok(false),
            _ => Err(Malformed),
        }
    }

    /// Whether a null is next, which is passed then.
    pub fn null(&mut self) -> bool {
        let is_null = self.data.get(self.at) == Some(&Marker::Null.to_u8());
        self.at += usize::from(is_null);
        is_null
    }

    /// Pass whatever is next; returns its bytes.
    pub fn raw(&mut self) -> Result<&'a [u8]> {
        let begin = self.at;
        let mut left = 1usize;
        while left > 0 {
            left -= 1;
            let (skip, inside) = match self.marker()? {
                Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => (0, 0),
                Marker::U8 | Marker::I8 => (1, 0),
                Marker::U16 | Marker::I16 => (2, 0),
                Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
                Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
                Marker::FixStr(count) => (usize::from(count), 0),
                Marker::Str8 => (self.count(1)?, 0),
                Marker::Str16 => (self.count(2)?, 0),
                Marker::Str32 => (self.count(4)?, 0),
                Marker::FixArray(count) => (0, usize::from(count)),
                Marker::Array16 => (0, self.count(2)?),
                Marker::Array32 => (0, self.count(4)?),
                Marker::FixMap(count) => (0, 2 * usize::from(count)),
                Marker::Map16 => (0, 2 * self.count(2)?),
                Marker::Map32 => (0, 2 * self.count(4)?),
                _ => return Err(Malformed),
            };
            self.bytes(skip)?;
            left += inside;
        }
        Ok(&self.data[begin..self.at])
    }
}

/// Writes MessagePack; writing to memory does not fail.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn record(elements: u32) -> Self {
        let mut writer = Self(Vec::with_capacity(96));
        writer.array(elements).int(SCHEMA_VERSION);
        writer
    }

    pub fn array(&mut self, count: u32) -> &mut Self {
        write_array_len(&mut self.0, count).expect("memory");
        self
    }

    pub fn map(&mut self, count: usize) -> &mut Self {
        write_map_len(&mut self.0, count as u32).expect("memory");
        self
    }

    pub fn int(&mut self, number: i64) -> &mut Self {
        write_sint(&mut self.0, number).expect("memory");
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        write_str(&mut self.0, text).expect("memory");
        self
    }

    pub fn bool(&mut self, value: bool) -> &mut Self {
        write_bool(&mut self.0, value).expect("memory");
        self
    }

    pub fn null(&mut self) -> &mut Self {
        write_nil(&mut self.0).expect("memory");
        self
    }

    pub fn kept(&mut self, value: &Kept) -> &mut Self {
        match value {
            Kept::Null => self.null(),
            Kept::Bool(value) => self.bool(*value),
            Kept::Int(number) => self.int(*number),
            Kept::Float(number) => {
                write_f64(&mut self.0, *number).expect("memory");
                self
            }
            Kept::Text(text) => self.text(text),
            Kept::Json(json) => self.array(1).text(json),
        }
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn counters(&mut self, counters: Option<&Counters>) -> &mut Self {
        let Some(counters) = counters else { return self.null() };
        self.array(4).int(SCHEMA_VERSION).int(counters.page_views).int(counters.first_seen);
        match counters.last_seen {
            Some(last_seen) => self.int(last_seen),
            None => self.null(),
        }
    }
}

/// `LeafCounters`.
#[derive(Clone, Debug, PartialEq)]
pub struct Counters {
    pub page_views: i64,
    pub first_seen: i64,
    pub last_seen: Option<i64>,
}

impl Counters {
    pub fn decode(data: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(data);
        let counters = Self::read(&mut reader)?;
        reader.end()?;
        Ok(counters)
    }

    fn read(reader: &mut Reader) -> Result<Self> {
        reader.version(4)?;
        let (page_views, first_seen) = (reader.int()?, reader.int()?);
        if !(0..=PAGE_VIEWS_MAX).contains(&page_views) {
            return Err(Malformed);
        }
        let last_seen = if reader.null() { None } else { Some(reader.int()?) };
        Ok(Self { page_views, first_seen, last_seen })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer(Vec::with_capacity(32));
        writer.counters(Some(self));
        writer.0
    }

    /// Add another leaf's (`domain.fold`).
    pub fn add(&mut self, other: &Self) {
        self.page_views += other.page_views;
        self.first_seen = self.first_seen.min(other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
    }
}

/// `Giver`.
#[derive(Debug)]
pub struct Giver {
    pub version: i64,
    pub counters: Option<Counters>,
    pub has_fields: bool,
}

/// `LeafLinks`.
#[derive(Debug, Default)]
pub struct Links {
    /// Anonymous leaf, event time and messageId of the claim that was sent to it.
    pub claimed: Vec<(String, i64, String)>,
    pub givers: Vec<(String, Giver)>,
}

impl Links {
    pub fn decode(data: &[u8]) -> Result<Self> {
        let mut reader = Reader::record(data, 3)?;
        let mut links = Self::default();
        for _ in 0..reader.map()? {
            let leaf = reader.text()?.to_owned();
            if reader.array()? != 2 {
                return Err(Malformed);
            }
            links.claimed.push((leaf, reader.int()?, reader.text()?.to_owned()));
        }
        for _ in 0..reader.map()? {
            let leaf = reader.text()?.to_owned();
            if reader.array()? != 3 {
                return Err(Malformed);
            }
            let version = reader.int()?;
            let counters = if reader.null() { None } else { Some(Counters::read(&mut reader)?) };
            links.givers.push((leaf, Giver { version, counters, has_fields: reader.bool()? }));
        }
        reader.end()?;
        Ok(links)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::record(3);
        writer.map(self.claimed.len());
        for (leaf, at, message_id) in &self.claimed {
            writer.text(leaf).array(2).int(*at).text(message_id);
        }
        writer.map(self.givers.len());
        for (leaf, giver) in &self.givers {
            writer.text(leaf).array(3).int(giver.version).counters(giver.counters.as_ref()).bool(giver.has_fields);
        }
        writer.0
    }
}

/// `LeafClaims` of an anonymous leaf that one user claims at most, and no operator has spoken of.
#[derive(Clone, Debug)]
pub struct OneClaim {
    pub user: String,
    pub at: i64,
    pub message_id: String,
    pub source: String,
}

impl OneClaim {
    /// Read a record; None where there is more than one claim, or an act.
    pub fn decode(data: &[u8]) -> Result<Option<Self>> {
        let mut reader = Reader::record(data, 3)?;
        if reader.map()? != 1 {
            return Ok(None);
        }
        let user = reader.text()?.to_owned();
        let claim = Self::read_claimed(&mut reader, user)?;
        if reader.map()? != 0 {
            return Ok(None);
        }
        reader.end()?;
        Ok(Some(claim))
    }

    fn read_claimed(reader: &mut Reader, user: String) -> Result<Self> {
        if reader.array()? != 3 {
            return Err(Malformed);
        }
        let (at, message_id, source) = (reader.int()?, reader.text()?.to_owned(), reader.text()?.to_owned());
        Ok(Self { user, at, message_id, source })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::record(3);
        writer.map(1).text(&self.user);
        writer.array(3).int(self.at).text(&self.message_id).text(&self.source);
        writer.map(0);
        writer.0
    }

    /// Read a letter, `Claim`.
    pub fn decode_letter(data: &[u8]) -> Result<Self> {
        let mut reader = Reader::record(data, 3)?;
        let user = reader.text()?.to_owned();
        let claim = Self::read_claimed(&mut reader, user)?;
        reader.end()?;
        Ok(claim)
    }

    /// Write a letter, `Claim`.
    pub fn encode_letter(&self) -> Vec<u8> {
        let mut writer = Writer::record(3);
        writer.text(&self.user).array(3).int(self.at).text(&self.message_id).text(&self.source);
        writer.0
    }
}

/// `Contribution`, its fields as they came.
#[derive(Debug)]
pub struct Contribution {
    pub giver: String,
    pub version: i64,
    pub counters: Option<Counters>,
    pub given: Option<Vec<u8>>,
}

impl Contribution {
    pub fn decode(data: &[u8]) -> Result<Self> {
        let mut reader = Reader::record(data, 5)?;
        let (giver, version) = (reader.text()?.to_owned(), reader.int()?);
        let counters = if reader.null() { None } else { Some(Counters::read(&mut reader)?) };
        let given = if reader.null() { None } else { Some(reader.raw()?.to_vec()) };
        reader.end()?;
        Ok(Self { giver, version, counters, given })
    }

    pub fn encode(giver: &str, version: i64, counters: Option<&Counters>, given: Option<&[u8]>) -> Vec<u8> {
        let mut writer = Writer::record(5);
        writer.text(giver).int(version).counters(counters);
        match given {
            Some(given) => writer.raw(given),
            None => writer.null(),
        };
        writer.0
    }
}

/// `LeafFields`: what messages say of a leaf beside its counters.
#[derive(Debug, Default)]
pub struct Fields {
    pub fields: Slots,
    pub attributes: Slots,
    /// Audience to membership, its value a boolean.
    pub memberships: Slots,
    /// groupId and the least event time of this leaf's group calls for it.
    pub companies: Vec<(String, i64)>,
}

impl Fields {
    pub fn decode(data: &[u8]) -> Result<Self> {
        let mut reader = Reader::record(data, 5)?;
        let (fields, attributes) = (Slots::read_of(&mut reader, is_text)?, Slots::read(&mut reader)?);
        let memberships = Slots::read_of(&mut reader, |value| matches!(value, Kept::Bool(_)))?;
        let mut companies = Vec::new();
        for _ in 0..reader.map()? {
            companies.push((reader.text()?.to_owned(), reader.int()?));
        }
        reader.end()?;
        Ok(Self { fields, attributes, memberships, companies })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::record(5);
        self.fields.write(&mut writer);
        self.attributes.write(&mut writer);
        self.memberships.write(&mut writer);
        writer.map(self.companies.len());
        for (company_id, joined_at) in &self.companies {
            writer.text(company_id).int(*joined_at);
        }
        writer.0
    }

    /// Join a company; returns since when, and whether that has changed anything: `domain.leaf._grouped`.
    pub fn join(&mut self, company_id: &str, at: i64) -> (i64, bool) {
        match self.companies.iter_mut().find(|(known, _)| known == company_id) {
            Some((_, joined_at)) if *joined_at <= at => (*joined_at, false),
            Some((_, joined_at)) => {
                *joined_at = at;
                (at, true)
            }
            None => {
                self.companies.push((company_id.to_owned(), at));
                (at, true)
            }
        }
    }

    /// What an owner is given of it, as `GivenFields`; None where there is nothing.
    pub fn given(&self) -> Option<Vec<u8>> {
        if self.fields.0.is_empty() && self.attributes.0.is_empty() {
            return None;
        }
        let mut writer = Writer::record(3);
        self.fields.write(&mut writer);
        self.attributes.write(&mut writer);
        Some(writer.0)
    }
}

/// Whether a value is one that standard fields have.
fn is_text(value: &Kept) -> bool {
    matches!(value, Kept::Null | Kept::Text(_))
}

/// Read `GivenFields`: fields and attributes.
pub fn decode_given(data: &[u8]) -> Result<(Slots, Slots)> {
    let mut reader = Reader::record(data, 3)?;
    let given = (Slots::read_of(&mut reader, is_text)?, Slots::read(&mut reader)?);
    reader.end()?;
    Ok(given)
}

/// Write `CompanyUpdate`: what one group call says of a company.
pub fn encode_update(group: &Group, message_id: &str, at: i64) -> Vec<u8> {
    let mut writer = Writer::record(6);
    writer.text(&group.company_id).text(message_id).int(at).map(group.fields.len());
    for (name, value) in &group.fields {
        writer.text(name);
        match value {
            Some(value) => writer.text(value),
            None => writer.null(),
        };
    }
    writer.map(group.attributes.len());
    for (name, value) in &group.attributes {
        writer.text(name).kept(value);
    }
    writer.0
}
