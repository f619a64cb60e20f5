// Package store is bytes on disk: the files that are shared, and the downloads that are under way. It knows no network.
//
//   - [Library] is what this peer shares. Files are served from where they lie, and never copied or mapped.
//   - [SharedDir] is a directory that is shared; [Download] a verified download, of a file or a directory.
//   - [Partial] is a download: a hidden folder beside its target, with the data, each unit at its final place, and a
//     [journal] of the units that are there. A crash at any instant loses at most what the journal does not say yet.
//
// The journal is written only after the data it speaks of was synced. A file appears under its final name only when it
// is complete. The format on disk is in docs/STORE.md.
package store
