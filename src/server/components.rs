//! The components of the endpoints: what all cores share, and what each core has for itself.

use std::sync::Arc;

use super::ServeError;
use crate::config::Config;
use crate::exports::{ExportStore, Exports};
use crate::lane::Components;
use crate::orders::OrderLines;
use crate::people::PendingErasures;
use crate::prices::Hub;
use crate::sales::KeptSales;
use crate::stock::RequestNumbers;
use crate::uploads::{UploadStore, Uploads};

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

    /// Creates one core's components. `prices_changed` is notified after every commit that changes prices.
    pub(super) fn components(
        self,
        core: usize,
        prices_changed: (async_channel::Sender<()>, async_channel::Receiver<()>),
    ) -> Components {
        Components::default()
            .with(Hub::new(prices_changed))
            .with(RequestNumbers::new(core))
            .with(OrderLines::default())
            .with(KeptSales::default())
            .with(Uploads::new(self.uploads))
            .with(Exports::new(self.exports))
            .with(PendingErasures)
    }
}
