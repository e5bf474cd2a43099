package secret

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

// Follower watches Secrets by name, as long as a Connector asks for them. Safe
// for concurrent use.
type Follower struct {
	ctx     context.Context //nolint:containedctx // the life of the watches, which Follow starts
	client  kubernetes.Interface
	changed func(types.NamespacedName)

	mu       sync.Mutex
	followed map[types.NamespacedName]*followed
	wanted   map[route.Connector][]types.NamespacedName
}

// NewFollower returns a follower whose watches end with the context. It calls
// changed, which may be nil and must not block, after a followed Secret
// appeared, changed or went, and when it becomes unreadable.
func NewFollower(ctx context.Context, client kubernetes.Interface, changed func(types.NamespacedName)) *Follower {
	if changed == nil {
		changed = func(types.NamespacedName) {}
	}
	return &Follower{
		ctx: ctx, client: client, changed: changed,
		followed: map[types.NamespacedName]*followed{},
		wanted:   map[route.Connector][]types.NamespacedName{},
	}
}

// Follow follows the Secrets on behalf of a Connector, in the place of those
// that it asked for before; with none, the Connector asks for nothing more.
func (f *Follower) Follow(owner route.Connector, names ...types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.wanted[owner]
	if len(names) == 0 {
		delete(f.wanted, owner)
	} else {
		f.wanted[owner] = slices.Clone(names)
	}
	for _, name := range names {
		f.start(name).owners[owner] = struct{}{}
	}
	for _, name := range before {
		f.release(name, owner)
	}
}

// start returns the watch of a Secret, and starts it if there is none.
func (f *Follower) start(name types.NamespacedName) *followed {
	if running, ok := f.followed[name]; ok {
		return running
	}
	ctx, stop := context.WithCancel(f.ctx)
	w := &followed{name: name, key: name.String(), stop: stop, owners: map[route.Connector]struct{}{}, answered: make(chan struct{}), changed: f.changed}
	w.informer = cache.NewSharedIndexInformer(w.listWatch(f.client), &corev1.Secret{}, 0, cache.Indexers{})
	_, _ = w.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{ // fails only on a stopped informer
		AddFunc:    func(any) { w.changed(name) },
		UpdateFunc: func(_, _ any) { w.changed(name) },
		DeleteFunc: func(any) { w.changed(name) },
	})
	go w.run(ctx)
	f.followed[name] = w
	return w
}

// release ends the owner's interest in a Secret, unless it asks for it still.
func (f *Follower) release(name types.NamespacedName, owner route.Connector) {
	w, running := f.followed[name]
	if !running || slices.Contains(f.wanted[owner], name) { // not running: released already, where the owner named it twice
		return
	}
	delete(w.owners, owner)
	if len(w.owners) == 0 {
		w.stop()
		delete(f.followed, name)
	}
}

// Owners returns the Connectors that asked for a Secret.
func (f *Follower) Owners(name types.NamespacedName) []route.Connector {
	f.mu.Lock()
	defer f.mu.Unlock()
	var owners []route.Connector
	if w, ok := f.followed[name]; ok {
		for owner := range w.owners {
			owners = append(owners, owner)
		}
	}
	return owners
}

// patience is how long Get waits for the API server.
const patience = 5 * time.Second

// Get returns a followed Secret as it was last seen. Only until the API server
// has first answered does it wait, for 5 s at most and as long as the context
// allows. Every error is a *Problem; the Secret may not be changed.
func (f *Follower) Get(ctx context.Context, name types.NamespacedName) (*corev1.Secret, error) {
	f.mu.Lock()
	w, ok := f.followed[name]
	f.mu.Unlock()
	if !ok {
		return nil, &Problem{Secret: name, Reason: v1alpha1.ReasonSecretNotFound, Detail: "no Connector names it"}
	}
	select {
	case <-w.answered:
		return w.get()
	default:
	}
	select {
	case <-w.answered:
		return w.get()
	case <-ctx.Done():
	case <-time.After(patience):
	}
	return nil, &Problem{Secret: name, Reason: v1alpha1.ReasonSecretUnreadable, Detail: "the API server has not answered yet; it is asked again"}
}

// followed is the watch of one Secret.
type followed struct {
	name     types.NamespacedName
	key      string // of the name, in the informer's store
	informer cache.SharedIndexInformer
	stop     context.CancelFunc
	owners   map[route.Connector]struct{} // guarded by Follower.mu
	changed  func(types.NamespacedName)

	answered chan struct{} // closed once the API server has answered, well or not
	once     sync.Once
	mu       sync.Mutex
	refused  bool // by the last answer
}

func (w *followed) run(ctx context.Context) {
	go func() {
		if cache.WaitFor(ctx, "", w.informer.HasSyncedChecker()) {
			w.answer(false)
			w.changed(w.name)
		}
	}()
	w.informer.RunWithContext(ctx)
}

func (w *followed) listWatch(client kubernetes.Interface) cache.ListerWatcher {
	secrets := client.CoreV1().Secrets(w.name.Namespace)
	only := fields.OneTermEqualSelector(metav1.ObjectNameField, w.name.Name).String()
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.FieldSelector = only
			list, err := secrets.List(ctx, options)
			w.record(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = only
			stream, err := secrets.Watch(ctx, options)
			w.record(err)
			return stream, err
		},
	}, client)
}

// record keeps the outcome of a request. A refusal is an answer too. What is
// allowed is one only when the informer has the Secret, for the first time in
// run. Another error is a passing one: what was last seen or refused stays so.
func (w *followed) record(err error) {
	if apierrors.IsForbidden(err) || err == nil && w.informer.HasSynced() {
		if w.answer(err != nil) {
			w.changed(w.name)
		}
	}
}

// answer keeps an answer of the API server, and reports whether it is news.
func (w *followed) answer(refused bool) (news bool) {
	w.mu.Lock()
	news = refused != w.refused
	w.refused = refused
	w.mu.Unlock()
	w.once.Do(func() { close(w.answered) })
	return news
}

func (w *followed) get() (*corev1.Secret, error) {
	w.mu.Lock()
	refused := w.refused
	w.mu.Unlock()
	if refused {
		return nil, &Problem{Secret: w.name, Reason: v1alpha1.ReasonSecretForbidden, Detail: "Berth may not read it; a Role in its namespace must let it"}
	}
	item, exists, _ := w.informer.GetStore().GetByKey(w.key)
	if s, ok := item.(*corev1.Secret); exists && ok {
		return s, nil
	}
	return nil, &Problem{Secret: w.name, Reason: v1alpha1.ReasonSecretNotFound, Detail: fmt.Sprintf("it does not exist; create it in namespace '%s'", w.name.Namespace)}
}
