"""The WebSocket stream of a session: its flow control and its connection."""
