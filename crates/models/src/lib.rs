//! What an installed model is ([`card`]) and where it lies ([`store`]).

pub mod card;
pub mod error;
pub mod store;

pub use card::{Card, File, Kind};
pub use error::{Error, Result};
pub use store::{InstalledModel, Store};
