// Building the page. Text goes in as text, never as markup: what a job is called cannot become code.

// el('a', {href: '#/jobs'}, 'Jobs'): properties that begin with "on" are listeners, the rest attributes.
export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.flat(Infinity).filter(child => child !== undefined && child !== null));
  return made;
}

// A list as a table that folds into lines on a phone. Columns: [name, row => content, 'number'?].
export function table(caption, columns, rows) {
  const heads = columns.map(([name, , kind]) => el('th', {scope: 'col', class: kind}, name));
  const lines = rows.map(row => el('tr', {}, columns.map(([name, content, kind]) =>
    el('td', {class: kind, 'data-name': name}, el('span', {}, content(row))))));
  return el('table', {class: 'rows'}, el('caption', {}, caption),
    el('thead', {}, el('tr', {}, heads)), el('tbody', {}, lines));
}

// [[name, content]]: lines without content are left out.
export function facts(pairs) {
  return el('dl', {}, pairs.filter(([, content]) => content !== undefined && content !== null && content !== '')
    .map(([name, content]) => [el('dt', {}, name), el('dd', {}, content)]));
}

export const state = name => el('span', {class: `state ${name}`}, name);

// What a screen reader is to say.
export function say(text) {
  document.getElementById('said').textContent = text;
}

export function problem(error) {
  return el('p', {class: 'problem', role: 'alert'}, error.message || String(error));
}

const numbers = new Intl.NumberFormat('en');
export const number = value => value === undefined || value === null ? '' : numbers.format(value);

const times = new Intl.DateTimeFormat(undefined, {dateStyle: 'medium', timeStyle: 'medium'});
export function time(text) {
  return text ? el('time', {datetime: text}, times.format(new Date(text))) : '';
}

export function span(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 1) return `${Math.round(milliseconds)} ms`;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export const lastPart = uri => uri.split('/').pop();
