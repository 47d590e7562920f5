//! The splice: bytes between a client and a backend, on one io_uring a core.
