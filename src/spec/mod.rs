//! The pipeline file: spanned tree → findings → validated [`Pipeline`], and its JSON Schema.
