//go:build !unix

package identity

import (
	"io/fs"
	"os"
)

// The folders of a user are that user's alone on these systems, unless somebody has changed that.
func isOurs(fs.FileInfo) bool { return true }
func wide(fs.FileInfo) bool   { return false }

// lockFile does nothing: processes that change the folder at once may lose one of the changes.
func lockFile(*os.File) error { return nil }

func tryLock(*os.File) error { return nil }

func syncFolder(string) error { return nil }
