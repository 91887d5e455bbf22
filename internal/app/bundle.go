package app

import (
	"archive/zip"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"tcpcopy/internal/config"
	"tcpcopy/internal/doctor"
)

// saltSize is how many bytes keep the hashes of a bundle from being looked up.
const saltSize = 16

// writeBundle writes a file for a bug report. It replaces no file, and only its user may read it.
func writeBundle(path string, r *doctor.Report, f *doctor.Facts) (err error) {
	files, err := bundleFiles(r, f)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return &config.Problem{Flag: "--bundle", Value: path,
			What: "cannot be written: " + errors.Unwrap(err).Error()}
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
			os.Remove(path)
		}
	}()
	z := zip.NewWriter(out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w, err := z.Create(name)
		if err != nil {
			return err
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			return err
		}
	}
	return z.Close()
}

// bundleFiles returns the files of a bundle, in which only the addresses of the copy's own hosts
// are left.
func bundleFiles(r *doctor.Report, f *doctor.Facts) (map[string]string, error) {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	keep := f.OwnAddresses()
	files := map[string]string{"version.txt": "tcpcopy " + Version() + "\n"}
	for name, v := range map[string]any{"report.json": r, "facts.json": f} {
		text, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		files[name] = string(text) + "\n"
	}
	files["command.txt"] = "tcpcopy " + strings.Join(f.Args, " ") + "\n"
	maps.Copy(files, f.Evidence)
	for name, text := range files {
		files[name] = doctor.Scrub(text, keep, salt)
	}
	return files, nil
}
