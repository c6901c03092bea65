"""Generated from service/proto by `make generate`; never edited."""
