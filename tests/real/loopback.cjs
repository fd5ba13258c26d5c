// Loaded into Node before a program that would listen on every interface.
const net = require('net')
const listen = net.Server.prototype.listen

net.Server.prototype.listen = function (where, ...rest) {
  if (typeof where === 'object' && where !== null) {
    return listen.call(this, { ...where, host: '127.0.0.1' }, ...rest)
  }
  return listen.call(this, where, '127.0.0.1', ...rest.filter((one) => typeof one === 'function'))
}
