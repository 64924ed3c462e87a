"""The WebSocket stream of a session: its wire format, its flow control, and its conversation."""
