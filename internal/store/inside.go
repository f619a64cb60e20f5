package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// inside names the folder in an error that knows only what is below it.
func inside(dir string, err error) error {
	name := ""
	var at *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &at):
		name = at.Path
	case errors.As(err, &link):
		name = link.New
	}
	if name == "" || filepath.IsAbs(name) {
		return err
	}
	return fmt.Errorf("in %s: %w", dir, err)
}
