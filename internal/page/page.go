// Package page is the pages of the long-running peer and of the swarm server: plain files that are served as they are written. There
// is no build step, and nothing comes from elsewhere. The pages use the API alone (internal/api); what they show of others they set
// as text, never as markup, and the policy that the API sends with them forbids all else.
//
// index.html with app.js is the peer's page, server.html with server.js the server's. docs/ARCHITECTURE.md says what is where.
package page

import (
	"embed"
	"io/fs"
)

//go:embed files
var all embed.FS

// Peer is the page of a peer.
func Peer() fs.FS { return only("index.html") }

// Server is the page of a swarm server.
func Server() fs.FS { return only("server.html") }

// only is all files, with one of them under the name that is served first.
func only(first string) fs.FS {
	sub, err := fs.Sub(all, "files")
	if err != nil {
		panic("page: " + err.Error())
	}
	return &opened{sub, first}
}

type opened struct {
	fs.FS
	first string
}

// Open opens a file.
func (o *opened) Open(name string) (fs.File, error) {
	if name == "index.html" {
		name = o.first
	}
	return o.FS.Open(name)
}
