//! What an installed model is ([`card`]), where it lies ([`store`]), how it gets there whole ([`install`]), and what
//! can be had ([`catalogue`]).

pub mod card;
pub mod catalogue;
pub mod digest;
pub mod error;
pub mod install;
pub mod store;

pub use card::{Card, File, Kind};
pub use catalogue::{Catalogue, Entry, Found, Known, Member, Source};
pub use digest::Digest;
pub use error::{Error, Result};
pub use install::Staging;
pub use store::{InstalledModel, Store};
