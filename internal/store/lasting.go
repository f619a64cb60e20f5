package store

import (
	"errors"
	"sync"
	"syscall"
)

// lasting passes on what came of a sync. A file system that knows no such thing (some network disks) is no failure: nobody can do anything
// about it, and all other promises hold. Its user is told, once.
type lasting struct {
	unsure func() // nil: nobody is told
	once   sync.Once
}

func (l *lasting) pass(err error) error {
	if !isUnsyncable(err) {
		return err
	}
	if l.unsure != nil {
		l.once.Do(l.unsure)
	}
	return nil
}

// isUnsyncable says whether a sync failed because there is no such thing there. Any other failure means that bytes may be lost.
func isUnsyncable(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL)
}

// IsShortage says whether something failed for want of descriptors or memory: not because of the file.
func IsShortage(err error) bool {
	for _, short := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EINTR, syscall.EAGAIN} {
		if errors.Is(err, short) {
			return true
		}
	}
	return false
}
