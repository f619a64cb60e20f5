package api

import "golang.org/x/sys/windows"

// diskSpace returns how much can be written to the disk of a path, and how large it is, in bytes.
func diskSpace(path string) (free, size uint64, err error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, 0, err
	}
	err = windows.GetDiskFreeSpaceEx(p, &free, &size, nil)
	return free, size, err
}
