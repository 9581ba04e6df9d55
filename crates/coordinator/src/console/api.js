// Calls of the API. The key is kept for this tab only and sent nowhere but to this coordinator.

const KEY = 'upres-key';

export const key = () => sessionStorage.getItem(KEY);
export const keep = text => sessionStorage.setItem(KEY, text);
export const forget = () => sessionStorage.removeItem(KEY);

// The coordinator's answer to a call that it did not carry out.
export class Refused extends Error {
  constructor(status, problem) {
    const fields = (problem.errors || []).map(field => `${field.pointer} ${field.detail}`);
    super([problem.detail || problem.title || `status ${status}`, ...fields].join('; '));
    this.status = status;
  }
}

// Sends a request; gives back {status, etag, body}.
export async function ask(path, {method = 'GET', body, etag, signal} = {}) {
  const headers = {Authorization: `Bearer ${key()}`};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (etag) headers['If-None-Match'] = etag;
  let answer;
  try {
    answer = await fetch(`/v1${path}`, {
      method, headers, signal, cache: 'no-store',
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Error('The coordinator does not answer.');
  }
  const text = await answer.text();
  let read;
  try {
    read = text ? JSON.parse(text) : undefined;
  } catch {
    throw new Error(`The answer (status ${answer.status}) cannot be read.`);
  }
  if (!answer.ok && answer.status !== 304) throw new Refused(answer.status, read || {});
  return {status: answer.status, etag: answer.headers.get('ETag'), body: read};
}

export const read = async (path, signal) => (await ask(path, {signal})).body;
export const post = async (path, body = {}) => (await ask(path, {method: 'POST', body})).body;

// Waits, unless the page is left.
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(new DOMException('left', 'AbortError'));
    });
  });
}
