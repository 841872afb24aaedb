"""The version of the client, which is that of the archive it was published with."""

VERSION = "0.1.0"
