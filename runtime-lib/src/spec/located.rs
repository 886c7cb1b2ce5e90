//! A JSON value as a type, with the JSON pointer of what was refused.
//!
//! The pointer is put together on the way out of a failure, so a success pays nothing for it.
//! (Wrapping every visitor, as a general crate has to, costs a third of a megabyte of code for
//! these types, and every container pays for the pages.)

use std::borrow::Cow;
use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Value, map};

/// Why a value is not of the type, and where in it.
#[derive(Debug)]
pub struct Refusal {
    pub text: String,
    /// What leads to it, the innermost first.
    path: Vec<Name>,
}

#[derive(Debug)]
enum Name {
    Member(String),
    Element(usize),
}

impl Refusal {
    fn inside(mut self, name: Name) -> Refusal {
        self.path.push(name);
        self
    }

    /// The JSON pointer of the value.
    pub fn pointer(&self) -> String {
        let mut pointer = String::new();
        for name in self.path.iter().rev() {
            pointer.push_str(&match name {
                Name::Member(name) => super::join("", name),
                Name::Element(index) => format!("/{index}"),
            });
        }
        pointer
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

impl de::Error for Refusal {
    fn custom<T: Display>(text: T) -> Refusal {
        Refusal {
            text: text.to_string(),
            path: Vec::new(),
        }
    }

    fn invalid_type(found: Unexpected, expected: &dyn Expected) -> Refusal {
        let (found, expected) = (in_json(found), plain(expected));
        de::Error::custom(format_args!("invalid type: {found}, expected {expected}"))
    }

    fn invalid_value(found: Unexpected, expected: &dyn Expected) -> Refusal {
        let (found, expected) = (in_json(found), plain(expected));
        de::Error::custom(format_args!("invalid value: {found}, expected {expected}"))
    }
}

/// What was found, as JSON calls it.
fn in_json(found: Unexpected) -> Unexpected {
    match found {
        Unexpected::Seq => Unexpected::Other("array"),
        Unexpected::Map => Unexpected::Other("object"),
        found => found,
    }
}

/// What was expected, for somebody who writes JSON and not Rust.
fn plain(expected: &dyn Expected) -> Cow<'static, str> {
    match expected.to_string() {
        word if word == "u32" => "a whole number from 0 to 4294967295".into(),
        word if ["i32", "i64", "u64"].contains(&word.as_str()) => "a whole number".into(),
        word if word == "a sequence" => "an array".into(),
        word if word == "a map" => "an object".into(),
        word if word == "path string" => "a string".into(),
        word => word.into(),
    }
}

/// Reads a value as a type.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Refusal> {
    T::deserialize(Located(value))
}

#[derive(Clone, Copy)]
struct Located<'v>(&'v Value);

impl<'v> Located<'v> {
    fn unexpected(self, expected: &dyn Expected) -> Refusal {
        let found = match self.0 {
            Value::Null => Unexpected::Other("null"),
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => Unexpected::Unsigned(number),
                (None, Some(number)) => Unexpected::Signed(number),
                _ => Unexpected::Float(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Unexpected::Str(text),
            Value::Array(_) => Unexpected::Seq,
            Value::Object(_) => Unexpected::Map,
        };
        de::Error::invalid_type(found, expected)
    }
}

impl<'de> Deserializer<'de> for Located<'_> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.0 {
            // JSON's own word for what serde calls a unit value.
            Value::Null => Err(self.unexpected(&visitor)),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                _ => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(elements) => {
                let mut rest = Elements {
                    elements: elements.iter(),
                    index: 0,
                };
                let read = visitor.visit_seq(&mut rest)?;
                match rest.elements.len() {
                    0 => Ok(read),
                    _ => Err(de::Error::invalid_length(
                        elements.len(),
                        &"fewer elements in array",
                    )),
                }
            }
            Value::Object(members) => visitor.visit_map(Members {
                members: members.iter(),
                member: None,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match self.0 {
            Value::String(word) => visitor.visit_enum(Word(word)),
            _ => Err(self.unexpected(&"string")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier
    }
}

struct Elements<'v> {
    elements: std::slice::Iter<'v, Value>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Refusal;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refusal> {
        let Some(element) = self.elements.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        match seed.deserialize(Located(element)) {
            Ok(read) => Ok(Some(read)),
            Err(refusal) => Err(refusal.inside(Name::Element(index))),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.elements.len())
    }
}

struct Members<'v> {
    members: map::Iter<'v>,
    /// The one whose key was read last.
    member: Option<(&'v String, &'v Value)>,
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refusal> {
        self.member = self.members.next();
        let Some((key, _)) = self.member else {
            return Ok(None);
        };
        let named = seed.deserialize(StrDeserializer::<Refusal>::new(key));
        named
            .map(Some)
            .map_err(|refusal| refusal.inside(Name::Member(key.clone())))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refusal> {
        let Some((key, value)) = self.member else {
            return Err(de::Error::custom("a value without its key"));
        };
        seed.deserialize(Located(value))
            .map_err(|refusal| refusal.inside(Name::Member(key.clone())))
    }
}

/// A word of an enum, all of whose variants are words.
struct Word<'v>(&'v str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = Refusal;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Refusal> {
        let variant = seed.deserialize(StrDeserializer::<Refusal>::new(self.0))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = Refusal;

    fn unit_variant(self) -> Result<(), Refusal> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Refusal> {
        Err(de::Error::custom("a word is expected"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Refusal> {
        Err(de::Error::custom("a word is expected"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Refusal> {
        Err(de::Error::custom("a word is expected"))
    }
}
