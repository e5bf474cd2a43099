// Package accesslog writes the access log of the proxies: a line of JSON for
// each request, tunnel and refusal, spelt as log/slog spells the lines of all
// else. Every request pays for its line, which slog takes several times as long
// to put together.
//
// What stands in a line is for the proxies to say; never a header, a token or a
// query string.
package accesslog

import (
	"io"
	"time"

	"github.com/rs/zerolog"
)

// Log is an access log. The zero value writes nothing. Safe for concurrent use.
type Log struct{ to *zerolog.Logger }

// New returns a log that writes each line at once. To a Batch it does so a little later.
func New(w io.Writer) Log { return Log{new(zerolog.New(zerolog.SyncWriter(w)))} }

// Line begins a line, which Write ends. It must not be used after that.
func (l Log) Line(now time.Time, message string) Line {
	if l.to == nil {
		return Line{}
	}
	return Line{l.to.Log().Str("time", now.Format(time.RFC3339Nano)).Str("level", "INFO").Str("msg", message)} //nolint:zerologlint // Write sends it
}

// Line is one that is being put together.
type Line struct{ event *zerolog.Event } // of nil, nothing is written

// Text adds a value, unless it is empty.
func (l Line) Text(key, value string) {
	if value != "" {
		l.event.Str(key, value)
	}
}

// Number adds a value, be it 0.
func (l Line) Number(key string, value int64) { l.event.Int64(key, value) }

// True adds that something is so.
func (l Line) True(key string) { l.event.Bool(key, true) }

// Failure adds the text of an error, if there is one.
func (l Line) Failure(key string, err error) {
	if err != nil {
		l.event.Str(key, err.Error())
	}
}

// Write writes the line.
func (l Line) Write() { l.event.Send() }
