"""The events component: values, use cases, ports and their adapters. See docs/architecture.md."""
