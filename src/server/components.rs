//! The components of the endpoints: what all cores share, and what each core has for itself.

use std::sync::Arc;

use super::ServeError;
use super::endpoints::changes::Hub;
use super::endpoints::exports::Exports;
use super::endpoints::reads::KeptSales;
use super::endpoints::stock::Numbers;
use super::endpoints::uploads::Uploads;
use crate::commerce::{ExportStore, UploadStore};
use crate::config::Config;
use crate::lane::Components;

/// The stores that the cores share.
#[derive(Clone)]
pub(super) struct Stores {
    uploads: Arc<UploadStore>,
    exports: Arc<ExportStore>,
}

impl Stores {
    pub(super) fn open(config: &Config) -> Result<Stores, ServeError> {
        let expiry_us = config.export_expiry.as_micros() as i64;
        Ok(Stores {
            uploads: Arc::new(UploadStore::open(&config.data, config.uploads_bytes_max)?),
            exports: Arc::new(ExportStore::open(&config.data, config.exports_bytes_max, expiry_us)?),
        })
    }

    /// Creates the components of one core. `prices_changed` gets a message after commits with changes of prices.
    pub(super) fn components(
        self,
        core: usize,
        prices_changed: (async_channel::Sender<()>, async_channel::Receiver<()>),
    ) -> Components {
        Components::default()
            .with(Hub::new(prices_changed))
            .with(Numbers::new(core))
            .with(KeptSales::default())
            .with(Uploads::new(self.uploads))
            .with(Exports::new(self.exports))
    }
}
