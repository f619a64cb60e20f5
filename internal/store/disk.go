package store

import (
	"io/fs"
	"os"
	"path/filepath"
)

// Disk is all that a verified download needs of a file system. It is the one seam through which its files are touched, so
// that a test can stop, tear or fail any operation.
type Disk interface {
	// OpenFolder opens a folder. Nothing outside it is touched through it.
	OpenFolder(path string) (Folder, error)
}

// Folder is an open folder. Names are below it; a symbolic link as the last part of a name is not followed.
type Folder interface {
	Open(name string, flag int, perm fs.FileMode) (File, error)
	Lstat(name string) (fs.FileInfo, error)
	Mkdir(name string, perm fs.FileMode) error
	Rename(from, to string) error
	Link(from, to string) error // never replaces
	Remove(name string) error
	RemoveAll(name string) error // also what is in it; links are not followed
	Symlink(target, name string) error
	Readlink(name string) (string, error)
	Chmod(name string, perm fs.FileMode) error
	SyncDir(name string) error // makes the names in it last
	// SyncAll makes all bytes and names on the folder's file system last; [errors.ErrUnsupported] where that is not to be had.
	SyncAll() error
	Free() (int64, error) // as [FreeSpace]
	Close() error
}

// File is an open file.
type File interface {
	ReadAt(b []byte, off int64) (int, error)
	WriteAt(b []byte, off int64) (int, error)
	Truncate(size int64) error
	Allocate(size int64) error // makes it so long, and takes the space
	Stat() (fs.FileInfo, error)
	DataSync() error // makes its bytes and its size last
	Lock() error     // until it is closed; fails at once when another process has it
	Close() error
}

// System returns the file system of this machine.
func System() Disk { return system{} }

type system struct{}

func (system) OpenFolder(path string) (Folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &folder{root, path}, nil
}

type folder struct {
	root *os.Root
	path string
}

func (f *folder) Open(name string, flag int, perm fs.FileMode) (File, error) {
	file, err := f.root.OpenFile(name, flag|noFollow, perm)
	if err != nil {
		return nil, err
	}
	return &systemFile{file}, nil
}

func (f *folder) Lstat(name string) (fs.FileInfo, error)    { return f.root.Lstat(name) }
func (f *folder) Mkdir(name string, perm fs.FileMode) error { return f.root.Mkdir(name, perm) }
func (f *folder) Rename(from, to string) error              { return f.root.Rename(from, to) }
func (f *folder) Link(from, to string) error                { return f.root.Link(from, to) }
func (f *folder) Remove(name string) error                  { return f.root.Remove(name) }
func (f *folder) SyncDir(name string) error                 { return syncDir(f.root, name) }
func (f *folder) RemoveAll(name string) error               { return f.root.RemoveAll(name) }
func (f *folder) Symlink(target, name string) error         { return f.root.Symlink(target, name) }
func (f *folder) Readlink(name string) (string, error)      { return f.root.Readlink(name) }
func (f *folder) Chmod(name string, perm fs.FileMode) error { return f.root.Chmod(name, perm) }
func (f *folder) SyncAll() error                            { return syncAll(f.root) }
func (f *folder) Free() (int64, error)                      { return freeSpace(f.path) }
func (f *folder) Close() error                              { return f.root.Close() }

type systemFile struct{ *os.File }

func (f *systemFile) Allocate(size int64) error { return allocate(f.File, size) }
func (f *systemFile) DataSync() error           { return dataSync(f.File) }
func (f *systemFile) Lock() error               { return lockFile(f.File) }

func sibling(dir, name string) string { return filepath.Join(dir, name) }
