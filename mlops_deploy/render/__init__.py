"""From a service to job files: a document as data, laid out by a template, parsed back. No engine is asked."""
