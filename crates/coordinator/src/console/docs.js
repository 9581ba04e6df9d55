// Lists the calls of /openapi.json.

const element = (name, text, parent) => {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (parent) parent.append(made);
  return made;
};
const resolve = (doc, schema) => schema && schema.$ref ? doc.components.schemas[schema.$ref.split('/').pop()] : schema;
const typeOf = schema => {
  if (!schema) return '';
  if (schema.$ref) return schema.$ref.split('/').pop();
  if (schema.oneOf) return schema.oneOf.map(typeOf).join(' or ');
  if (schema.enum) return schema.enum.join(' | ');
  if (schema.items) return 'list of ' + typeOf(schema.items);
  return [].concat(schema.type || '').join(' or ');
};
const fields = (doc, schema, parent) => {
  const object = resolve(doc, schema);
  if (!object || !object.properties) return;
  const table = element('table', '', parent);
  for (const [name, field] of Object.entries(object.properties)) {
    const row = element('tr', '', table);
    element('code', name, element('td', '', row));
    element('td', typeOf(field) + ((object.required || []).includes(name) ? '' : ' (optional)'), row);
    element('td', field.description || '', row);
  }
};
fetch('/openapi.json').then(answer => answer.json()).then(doc => {
  const main = document.getElementById('calls');
  main.textContent = '';
  for (const tag of doc.tags) {
    element('h2', tag.name, main);
    element('p', tag.description, main);
    for (const [path, methods] of Object.entries(doc.paths)) {
      for (const [method, call] of Object.entries(methods)) {
        if (!(call.tags || []).includes(tag.name)) continue;
        const box = element('details', '', main);
        const head = element('summary', '', box);
        element('span', method.toUpperCase(), head).className = 'method';
        element('code', path, head);
        element('p', [call.summary, call.description].filter(Boolean).join(' '), box);
        for (const parameter of call.parameters || [])
          element('p', `${parameter.name} (${parameter.in}): ${parameter.description || ''}`, box);
        const body = call.requestBody && Object.values(call.requestBody.content)[0];
        if (body) { element('h4', 'Body', box); fields(doc, body.schema, box); }
        element('h4', 'Answers', box);
        for (const [status, answer] of Object.entries(call.responses)) {
          element('p', `${status}: ${answer.description}`, box);
          const content = answer.content && Object.values(answer.content)[0];
          if (content && status < 300) fields(doc, content.schema, box);
        }
      }
    }
  }
});
