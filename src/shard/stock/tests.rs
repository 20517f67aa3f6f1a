//! Promises of the stock, kept against real files.
