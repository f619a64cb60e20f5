// Package bundle says how a directory is one content: a stream that begins with a listing of what is in the directory, followed by
// the bytes of its files in the order of the listing.
//
//   - [Listing] is what is in a directory: an [Entry] for each file, directory and symbolic link, depth first, by name.
//   - [Builder] makes one. The parser uses it too, so that nothing is parsed that could not be made.
//   - [Selection] chooses files by patterns.
//
// A directory has exactly one listing, and a listing exactly one encoding. An entry has one name, not a path: none can lead out of the
// directory, name something twice, be a file and a directory at once, or go through a link. The package is pure: it opens nothing. The
// format is in docs/PROTOCOL.md section 16.
package bundle
